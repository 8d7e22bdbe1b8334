-- The token is 8 zeros and the fence; after the ttl a forgotten load is closed.   {now ms, 3} fenced
local fence = string.sub(ARGV[1], 9, 16)
local seen = floor_after(h, lease or '', false)
if later(seen, fence) ~= fence then return {now_ms, 3} end
local grant = fence .. failures
redis.call('SET', KEYS[2], ARGV[1] .. grant .. pack(tonumber(ARGV[2])), 'PX', ARGV[2])
return {now_ms, 1, grant, version}
