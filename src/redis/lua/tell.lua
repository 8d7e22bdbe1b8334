-- Who waits is noted behind the lease, from byte 37: 16 bytes for each process, and so many of them at most.
local WAITERS = 64

-- Publishes to all of the namespace, or to those only that wait, unless there may be more of them than are noted.
-- 0, or -1 if it cannot be done here: the client does it. A Cluster's channel may be in another node.
-- A process gets the channel with the message: length, u16 | channel | message.
local function tell(command, events, processes, message, lease, all)
  local waiters = string.sub(lease, 37)
  if events == '' or (waiters == '' and not all) then return 0 end
  if command == '' then return -1 end
  if all or #waiters >= 16 * WAITERS then
    return type(redis.pcall(command, events, message)) == 'number' and 0 or -1
  end
  local direct = struct.pack('>I2', #events) .. events .. message
  for at = 1, #waiters, 16 do
    local heard = redis.pcall(command, processes .. string.sub(waiters, at, at + 15), direct)
    if type(heard) ~= 'number' then return -1 end
  end
  return 0
end
