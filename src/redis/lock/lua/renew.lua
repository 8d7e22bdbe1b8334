-- KEYS lease, floor   ARGV token, ttl ms, least fence ('' to leave it)   1 renewed | 0 lost
local lease = first_bytes(KEYS[1], 31)
if string.sub(lease, 1, 16) ~= ARGV[1] then return 0 end
local floor_ms, ttl = FLOOR_MS + ARGV[2], pack(tonumber(ARGV[2]))
if ARGV[3] == '' and string.sub(lease, 25) == ttl then
  redis.call('PEXPIRE', KEYS[2], floor_ms)
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local fence = math.max(tonumber(ARGV[3]) or 0, u64(lease, 17))
redis.call('SET', KEYS[1], ARGV[1] .. pack(fence) .. ttl, 'PX', ARGV[2])
redis.call('SET', KEYS[2], pack(fence), 'PX', floor_ms)
return 1
