-- u64, big-endian, as two u32. A Lua number is exact to 2^53: what may be greater is compared as bytes.
local TWO32 = 4294967296

local function u64(bytes, at)
  local high, low = struct.unpack('>I4I4', bytes, at)
  return high * TWO32 + low
end

local function pack(n)
  local high = math.floor(n / TWO32)
  return struct.pack('>I4I4', high, n - high * TWO32)
end

-- microseconds of this server: exact in a Lua number until the year 2255. `given`: what the client takes them for,
-- where scripts may not ask
local function now_us(given)
  if given and given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end
