-- KEYS lease   ARGV token, message, address (command, channel, processes)   {1, told} released | {0, 0} lost
local lease = redis.pcall('GETRANGE', KEYS[1], 0, 35 + 16 * WAITERS)
if type(lease) ~= 'string' then
  -- a refusal is the answer; a key of another type is no lease
  if not string.find(lease.err, 'WRONGTYPE', 1, true) then return lease end
  return {0, 0}
end
if string.sub(lease, 1, 16) ~= ARGV[1] then return {0, 0} end
redis.call('DEL', KEYS[1])
return {1, tell(ARGV[3], ARGV[4], ARGV[5], ARGV[2], lease, false)}
