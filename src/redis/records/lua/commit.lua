-- KEYS entry, lease
-- ARGV token ('' for a put), kind, version ('' takes over the one on record), ttl ms, retention ms,
--      load time and payload, tail of the message, address (command, channel, processes), now ('' to ask)
-- {1, version, told} stored | {0, '', told} lease lost | {-1, version on record, told} older | the server's error
-- told: -1 if the client has to publish it
local put = ARGV[1] == ''
local lease = first_bytes(KEYS[2], put and 23 or LEASE)
local mine = not put and string.sub(lease, 1, 16) == ARGV[1]
if not put and not mine then return {0, '', 0} end

local h = header(first_bytes(KEYS[1], HEADER - 1))
local known = h and string.sub(h, 3, 18)
local version, order = ARGV[3], 1
if version == '' then version = known or string.rep('\0', 16) end
if h then order = compare(version, known) end
local reply
if order < 0 then
  reply = {-1, known}
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
-- An older near entry can exist only where there was an older entry: of what was invalidated all were told, and drop it
-- before any message that comes now; but a client that tells by a command of its own may have died before that. Where
-- there was no record, nobody has read one.
local kind = put and 'P' or 'C'
local told_of_all = string.byte(h or '', 2) == 84 and ARGV[8] == 'PUBLISH'
local all = put or (h and order > 0 and not told_of_all)
if stored then
  reply[3] = tell(ARGV[8], ARGV[9], ARGV[10], kind .. version .. ARGV[7], lease, all)
elseif mine then
  reply[3] = tell(ARGV[8], ARGV[9], ARGV[10], 'R' .. version .. ARGV[7], lease, false)
else
  reply[3] = 0
end
return reply
