-- KEYS entry, lease   ARGV token, lease ttl ms, for how many ms an entry must stay fresh, who waits ('' for nobody),
--      now ('' to ask)
-- {now ms, 0, entry} hit | {now ms, 1, fence and failures, version on record or ''} granted | {now ms, 4, ms remaining} backs off
local found = redis.call('MGET', KEYS[1], KEYS[2])
local entry, lease = found[1], found[2]
local us = now()
local now_ms = string.format('%.0f', math.floor(us / 1000))
local h = header(entry)
if h and string.byte(h, 2) ~= 84 and fresh_ms(h, us) > tonumber(ARGV[3]) then return {now_ms, 0, entry} end
local version = h and string.sub(h, 3, 18) or ''
-- A stranger's key is no lease: too short, or without an expiry, so that it would never end.
local lease_ms = lease and redis.call('PTTL', KEYS[2])
if lease and (#lease < 36 or lease_ms < 0) then lease = nil end
local holder = lease and string.sub(lease, 1, 16)
local failures = lease and string.sub(lease, 25, 28) or string.rep('\0', 4)
if holder == BACK_OFF and #lease >= 44 then
  local remaining, length = math.ceil(u64(lease, 37) - us / 1000), u64(lease, 29)
  if remaining > length then
    -- the clock was set back
    remaining = length
    redis.call('PEXPIRE', KEYS[2], 2 * length + 1000)
    redis.call('SETRANGE', KEYS[2], 36, pack(math.ceil(us / 1000) + length))
  end
  if remaining > 0 then return {now_ms, 4, remaining} end
end
