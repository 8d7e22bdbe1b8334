-- KEYS any of ours   ARGV channel, sharded channel in the slot of the key ('' if there are none)
-- {seconds, microseconds (or '' where scripts may not ask), published, counted, published to the sharded one}
-- The empty message is none.
redis.call('MGET', KEYS[1])
local time = redis.pcall('TIME')
local published = redis.pcall('PUBLISH', ARGV[1], '')
local counted = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1])
local sharded = ARGV[2] ~= '' and redis.pcall('SPUBLISH', ARGV[2], '')
return {time[1] or '', time[2] or '', type(published) == 'number' and 1 or 0, counted.err and 0 or 1, type(sharded) == 'number' and 1 or 0}
