-- lease: 16 bytes token | 17-24 fence, u64 | 25-32 its ttl, u64 ms; it expires by its own PX
-- floor: the last fence, u64, for a minute longer: a clock that goes back must not hand it out again
-- queue: the waiters by the time they came; alive: the same, by the ms until which they count as alive, ALIVE_MS after they looked
--   waiter: 16 bytes token | 17-32 the process, notified at cg:lock:{process in hex}   (big-endian)
-- When this server's clock is set back, ends are further away than was asked for.
local FLOOR_MS = 60000
-- how long a waiter that does not look again keeps its place
local ALIVE_MS = 1000

local function leave(waiter)
  if waiter ~= '' and on(KEYS[3], 'ZREM', waiter) == 1 then on(KEYS[4], 'ZREM', waiter) end
end

-- the waiter that waits longest, of those alive
local function head(now)
  while true do
    local first = on(KEYS[3], 'ZRANGE', 0, 0)[1]
    if not first then return nil end
    local left = (tonumber(on(KEYS[4], 'ZSCORE', first) or 0)) - now / 1000
    if left > 0 and left <= ALIVE_MS then return first end
    leave(first)
  end
end
