-- KEYS lease, floor   ARGV token, ttl ms, least fence ('' to leave it)   1 renewed | 0 lost
local lease = redis.call('GETRANGE', KEYS[1], 0, 23)
if string.sub(lease, 1, 16) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
local fence = math.max(tonumber(ARGV[3]), u64(lease, 17))
redis.call('SET', KEYS[1], ARGV[1] .. pack(fence), 'PX', ARGV[2])
redis.call('SET', KEYS[2], pack(fence), 'PX', FLOOR_MS)
return 1
