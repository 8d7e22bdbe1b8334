-- The floor after a write: the greatest fence seen (`beyond` it, to revoke the open load). Fences come from a
-- lock of another system and may use all 64 bits: they are compared and raised as two u32.
local function later(a, b)
  return compare(string.rep('\0', 8) .. a, string.rep('\0', 8) .. b) < 0 and b or a
end

local function floor_after(h, lease, beyond)
  local floor = h and string.sub(h, 19, 26) or string.rep('\0', 8)
  if #lease < 24 then return floor end
  local high, low = struct.unpack('>I4I4', lease, 17)
  -- there is none beyond the greatest
  if beyond and high + low < 2 * (TWO32 - 1) then
    low = low + 1
    if low == TWO32 then high, low = high + 1, 0 end
  end
  return later(floor, struct.pack('>I4I4', high, low))
end
