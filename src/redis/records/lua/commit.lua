-- KEYS entry, lease
-- ARGV token ('' for a put), kind, version ('' takes over the one on record), ttl ms, retention ms,
--      load time and payload, channel ('' for no message), tail of the message, now ('' to ask)
-- {1, version} stored | {0} lease lost | {-1, version on record} older | the server's error
local put = ARGV[1] == ''
local lease = first_bytes(KEYS[2], 23)
local mine = not put and string.sub(lease, 1, 16) == ARGV[1]
if not put and not mine then return {0} end

local h = header(first_bytes(KEYS[1], HEADER - 1))
local version = ARGV[3]
local reply
if version == '' then version = h and string.sub(h, 3, 18) or string.rep('\0', 16) end
if h and compare(version, string.sub(h, 3, 18)) < 0 then
  reply = {-1, string.sub(h, 3, 18)}
else
  local floor = floor_after(h, lease, put)
  local ttl = tonumber(ARGV[4])
  local fresh = pack(math.floor(now() / 1000) + ttl) .. struct.pack('>I4', math.ceil(ttl / 1000))
  local bytes = '\2' .. ARGV[2] .. version .. floor .. fresh .. ARGV[6]
  -- no shorter than an earlier invalidation asked for: its version is in this one
  local retention = math.max(tonumber(ARGV[5]), h and redis.call('PTTL', KEYS[1]) or 0)
  -- pcall: out of memory must still end the lease
  local set = redis.pcall('SET', KEYS[1], bytes, 'PX', string.format('%.0f', retention))
  if type(set) == 'table' and set.err then reply = set else reply = {1, version} end
end
local stored = reply[1] == 1
-- a put also ends what only looks like a lease
if mine or (stored and put) then redis.call('DEL', KEYS[2]) end
if ARGV[7] == '' then
  return reply
elseif stored then
  redis.call('PUBLISH', ARGV[7], (put and 'P' or 'C') .. version .. ARGV[8])
elseif mine then
  redis.call('PUBLISH', ARGV[7], 'R' .. version .. ARGV[8])
end
return reply
