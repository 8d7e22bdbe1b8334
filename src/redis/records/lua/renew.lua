-- KEYS lease   ARGV token, lease ttl ms   1 renewed | 0 lost
if first_bytes(KEYS[1], 15) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
