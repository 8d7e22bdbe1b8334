-- KEYS lease   ARGV token, lease ttl ms   1 renewed | 0 lost
local lease = first_bytes(KEYS[1], 35)
if string.sub(lease, 1, 16) ~= ARGV[1] then return 0 end
local ttl = pack(tonumber(ARGV[2]))
local renewed = redis.call('PEXPIRE', KEYS[1], ARGV[2])
if string.sub(lease, 29, 36) ~= ttl then redis.call('SETRANGE', KEYS[1], 28, ttl) end
return renewed
