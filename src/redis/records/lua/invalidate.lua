-- KEYS entry, lease   ARGV version ('' for any), retention ms, message, channel of the subscribers ('' for no count),
--      address (command, channel, processes), now ('' to ask)
-- how many subscribers are to confirm it; -1 if the client has to publish it
local h = header(first_bytes(KEYS[1], HEADER - 1))
local lease = first_bytes(KEYS[2], 23)
-- The first write is a DEL: with its memory full Redis refuses a script at its first write that
-- needs memory, but lets one finish that began with a DEL.
redis.call('DEL', KEYS[2])
local floor = floor_after(h, lease, true)
local version, stays = ARGV[1], false
-- no shorter than an earlier invalidation asked for
local retention = math.max(tonumber(ARGV[2]), h and redis.call('PTTL', KEYS[1]) or 0)
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
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', retention))
else
  redis.call('SET', KEYS[1], '\2T' .. version .. floor .. string.rep('\0', 16), 'PX', string.format('%.0f', retention))
end
if ARGV[6] == '' then return 0 end
if ARGV[5] == '' then return -1 end
return publish_counted(ARGV[5], ARGV[6], ARGV[3], ARGV[4])
