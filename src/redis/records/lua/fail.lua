-- KEYS lease   ARGV token, back-off ms, message, address (command, channel, processes), now ('' to ask)
-- {1, told} backs off | {0, 0} lost
local lease = first_bytes(KEYS[1], LEASE)
if #lease < 28 or string.sub(lease, 1, 16) ~= ARGV[1] then return {0, 0} end
local back_off = tonumber(ARGV[2])
local failures = math.min(struct.unpack('>I4', lease, 25) + 1, TWO32 - 1)
local ends = math.ceil(now() / 1000) + back_off
-- a DEL first: see invalidate.lua
redis.call('DEL', KEYS[1])
local bytes = BACK_OFF .. string.sub(lease, 17, 24) .. struct.pack('>I4', failures) .. pack(back_off) .. pack(ends)
redis.call('SET', KEYS[1], bytes, 'PX', 2 * back_off + 1000)
return {1, tell(ARGV[4], ARGV[5], ARGV[6], ARGV[3], lease, false)}
