-- Publishes, and returns who is to confirm; -1 if it cannot be done here. PUBLISH also counts whoever listens by a pattern
-- (a monitor), and these never confirm: only our subscribers are on the other channel.
local function publish_counted(command, channel, message, subscribers)
  local receivers = redis.pcall(command, channel, message)
  if type(receivers) ~= 'number' then return -1 end
  if subscribers == '' then return receivers end
  return redis.call('PUBSUB', 'NUMSUB', subscribers)[2]
end
