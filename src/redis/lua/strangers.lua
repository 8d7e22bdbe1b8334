-- A key of another type under one of ours is a stranger's: it is none, and is replaced.
local function is_other_type(answer)
  return type(answer) == 'table' and answer.err and string.find(answer.err, 'WRONGTYPE', 1, true)
end

-- The first bytes of a key, to the `last`. Not MGET, which takes a long value as a whole.
local function first_bytes(key, last)
  local bytes = redis.pcall('GETRANGE', key, 0, last)
  if type(bytes) == 'string' then return bytes end
  if is_other_type(bytes) then return '' end
  return redis.call('GETRANGE', key, 0, last)
end

-- A command about a key, which is emptied first if it is of another type.
local function on(key, command, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if is_other_type(answer) then redis.call('DEL', key) end
  return redis.call(command, key, ...)
end
