-- KEYS lease, floor, queue, alive
-- ARGV token, ttl ms, waiter ('' for a call that does not wait)
-- {1, fence} granted | {0, ms remaining of the lease; negative for a free lock whose turn is another's} held
local lease = first_bytes(KEYS[1], 31)
-- a stranger's: too short, or without an expiry, so that it would never end
if #lease > 0 and (#lease < 32 or redis.call('PTTL', KEYS[1]) < 0) then lease = '' end
local mine = string.sub(lease, 1, 16) == ARGV[1]
if #lease == 32 and mine then
  -- our own, from a call whose answer was lost
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  leave(ARGV[3])
  return {1, string.format('%.0f', u64(lease, 17))}
end
local now = now_us()
local first = #lease == 0 and head(now)
if #lease == 0 and (not first or first == ARGV[3]) then
  local fence, floor = now, first_bytes(KEYS[2], 7)
  if #floor == 8 and fence <= u64(floor, 1) then fence = u64(floor, 1) + 1 end
  redis.call('SET', KEYS[1], ARGV[1] .. pack(fence) .. pack(tonumber(ARGV[2])), 'PX', ARGV[2])
  redis.call('SET', KEYS[2], pack(fence), 'PX', FLOOR_MS + ARGV[2])
  leave(ARGV[3])
  return {1, string.format('%.0f', fence)}
end
if ARGV[3] ~= '' then
  -- a waiter keeps its place until it is granted the lock or falls silent
  on(KEYS[3], 'ZADD', 'NX', now, ARGV[3])
  on(KEYS[4], 'ZADD', now / 1000 + ALIVE_MS, ARGV[3])
  redis.call('PEXPIRE', KEYS[3], ALIVE_MS * 2)
  redis.call('PEXPIRE', KEYS[4], ALIVE_MS * 2)
end
local remaining = redis.call('PTTL', KEYS[1])
if remaining > 0 and remaining > u64(lease, 25) then
  -- a holder that lives renews
  remaining = u64(lease, 25)
  redis.call('PEXPIRE', KEYS[1], remaining)
end
return {0, remaining}
