-- Notes who waits behind the lease. One that is not noted may miss the end of the lease, unless there are so many
-- that all are told.
local function note(lease, waiter)
  local known = waiter ~= '' and string.find(lease, waiter, 37, true)
  local ahead = math.floor(((known or #lease + 1) - 37) / 16)
  if known or waiter == '' or ahead >= WAITERS then return ahead end
  -- pcall: a Redis whose memory is full
  return type(redis.pcall('APPEND', KEYS[2], waiter)) == 'number' and ahead or -1
end

-- {now ms, 2, ms remaining, how many were noted before us, or -1 if we are not} held
if holder and holder ~= BACK_OFF then
  if holder ~= ARGV[1] then
    local ttl = u64(lease, 29)
    if lease_ms > ttl then
      -- the clock was set back: a holder that lives renews
      lease_ms = ttl
      redis.call('PEXPIRE', KEYS[2], ttl)
    end
    return {now_ms, 2, lease_ms, note(lease, ARGV[4])}
  end
  -- our own, from a call whose answer was lost
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return {now_ms, 1, string.sub(lease, 17, 28), version}
end
-- No counter key to lose: the fence is the server's clock, pushed past the entry's floor and the failed lease's fence.
local fence = us
if h then fence = math.max(fence, u64(h, 19) + 1) end
if lease then fence = math.max(fence, u64(lease, 17) + 1) end
local grant = pack(fence) .. failures
redis.call('SET', KEYS[2], ARGV[1] .. grant .. pack(tonumber(ARGV[2])), 'PX', ARGV[2])
return {now_ms, 1, grant, version}
