-- KEYS lease, floor, queue, alive   ARGV token, waiter ('' for none)
-- Ends the lease of the token and the wait of the waiter, and notifies the next. 1 if there was such a lease
leave(ARGV[2])
local lease = first_bytes(KEYS[1], 15)
local mine = lease == ARGV[1]
if mine then redis.call('DEL', KEYS[1]) end
if mine or #lease == 0 then
  local first = head(now_us())
  if first then
    local process = string.gsub(string.sub(first, 17, 32), '.', function(c) return string.format('%02x', string.byte(c)) end)
    -- pcall: where scripts may not publish, the lock is free all the same, and waiters look again
    redis.pcall('PUBLISH', 'cg:lock:' .. process, string.sub(first, 1, 16))
  end
end
return mine and 1 or 0
