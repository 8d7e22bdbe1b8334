-- The floor after a write: past what the lease and the record have seen (`beyond` them, to revoke), and not
-- before this server's clock, from which the next fence comes.
local function floor_after(h, lease, beyond)
  local more = beyond and 1 or 0
  local floor = now()
  if #lease >= 24 then floor = math.max(floor, u64(lease, 17) + more) end
  if h then floor = math.max(floor, u64(h, 19) + more) end
  return pack(floor)
end
