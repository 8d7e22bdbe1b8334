-- KEYS lease   ARGV token, pause ms, channel ('' for no message), message   1 paused | 0 lost
local lease = redis.call('GETRANGE', KEYS[1], 0, 27)
if string.sub(lease, 1, 16) ~= ARGV[1] then return 0 end
local pause = tonumber(ARGV[2])
local failures = math.min(struct.unpack('>I4', lease, 25) + 1, TWO32 - 1)
local ends = math.ceil(now_us() / 1000) + pause
-- a DEL first: see invalidate.lua
redis.call('DEL', KEYS[1])
local paused = PAUSED .. string.sub(lease, 17, 24) .. struct.pack('>I4', failures) .. pack(ends)
redis.call('SET', KEYS[1], paused, 'PX', 2 * pause + 1000)
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return 1
