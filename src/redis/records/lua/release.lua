-- KEYS lease   ARGV token, channel ('' for no message), message
local lease = redis.pcall('GETRANGE', KEYS[1], 0, 15)
-- a refusal is the answer; a key of another type is no lease
if type(lease) ~= 'string' and not string.find(lease.err, 'WRONGTYPE', 1, true) then return lease end
if lease ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return 1
