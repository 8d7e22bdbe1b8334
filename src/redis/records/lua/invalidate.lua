-- KEYS entry, lease   ARGV version ('' for any), retention ms, channel ('' for no message), message
-- how many subscribers the message was delivered to
local h = header(redis.call('GETRANGE', KEYS[1], 0, HEADER - 1))
local lease = redis.call('GETRANGE', KEYS[2], 0, 23)
-- The first write is a DEL: with its memory full Redis refuses a script at its first write that
-- needs memory, but lets one finish that began with a DEL.
redis.call('DEL', KEYS[2])
local floor = floor_after(h, lease, true)
local version, stays = ARGV[1], false
if h then
  local known = string.sub(h, 3, 18)
  if version == '' then
    version = known
  elseif compare(version, known) <= 0 then
    stays = string.byte(h, 2) ~= 84
    version = known
  end
elseif version == '' then
  version = string.rep('\0', 16)
end
if stays then
  redis.call('SETRANGE', KEYS[1], 18, floor)
else
  -- no shorter than an earlier invalidation asked for
  local retention = math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1]))
  redis.call('SET', KEYS[1], '\1T' .. version .. floor .. string.rep('\0', 12), 'PX', retention)
end
return ARGV[3] ~= '' and redis.call('PUBLISH', ARGV[3], ARGV[4]) or 0
