-- Publishes, and returns who is to confirm. PUBLISH also counts whoever listens by a pattern (a monitor), and
-- these never confirm: only our subscribers are on the second channel.
local function publish_counted(channel, message, subscribers)
  local receivers = redis.call('PUBLISH', channel, message)
  if subscribers == '' then return receivers end
  return redis.call('PUBSUB', 'NUMSUB', subscribers)[2]
end
