-- KEYS entry, lease   ARGV token, lease ttl ms, '1' if a fresh entry is of no use (it does not decode)
-- {now ms, 0, entry} hit | {now ms, 1, fence, version on record or ''} granted | {now ms, 2, ms left} held
local found = redis.call('MGET', KEYS[1], KEYS[2])
local entry, lease = found[1], found[2]
local now = now_us()
local now_ms = string.format('%.0f', math.floor(now / 1000))
local h = header(entry)
if h and ARGV[3] ~= '1' and string.byte(h, 2) ~= 84 and u64(h, 27) > now / 1000 then
  return {now_ms, 0, entry}
end
local version = h and string.sub(h, 3, 18) or ''
if lease then
  if string.sub(lease, 1, 16) ~= ARGV[1] then return {now_ms, 2, redis.call('PTTL', KEYS[2])} end
  -- our own, from a call whose answer was lost
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return {now_ms, 1, string.format('%.0f', u64(lease, 17)), version}
end
-- No counter key to lose: the fence is the server's clock, pushed past the entry's floor.
local fence = now
if h and fence <= u64(h, 19) then fence = u64(h, 19) + 1 end
redis.call('SET', KEYS[2], ARGV[1] .. pack(fence), 'PX', ARGV[2])
return {now_ms, 1, string.format('%.0f', fence), version}
