-- KEYS entry, lease   ARGV token (8 zeros and the fence), ms after which a forgotten load is closed,
--      '1' if a fresh entry is of no use (it does not decode)
-- {now ms, 0, entry} hit | {now ms, 1, version on record or ''} begun | {now ms, 3} fenced
local found = redis.call('MGET', KEYS[1], KEYS[2])
local entry, lease = found[1], found[2]
local now = now_us()
local now_ms = string.format('%.0f', math.floor(now / 1000))
local h = header(entry)
if h and ARGV[3] ~= '1' and string.byte(h, 2) ~= 84 and u64(h, 27) > now / 1000 then
  return {now_ms, 0, entry}
end
local fence = string.sub(ARGV[1], 9, 16)
local seen = floor_after(h, lease or '', false)
if later(seen, fence) ~= fence then return {now_ms, 3} end
redis.call('SET', KEYS[2], ARGV[1] .. fence, 'PX', ARGV[2])
return {now_ms, 1, h and string.sub(h, 3, 18) or ''}
