-- entry: 38 bytes + payload                                                              (all big-endian)
--   1 format (1) | 2 kind 'V' value, 'N' absent, 'T' tombstone | 3-18 version, two u64 | 19-26 fence floor, u64
--   27-34 fresh until, u64 ms of this server | 35-38 load time, u32 us | payload
-- lease: 16 bytes token | 17-24 fence, u64 | 25-28 failed loads in a row, u32; it expires by its own PX
-- back-off after a failed load: a lease whose token is BACK_OFF | the same | 29-36 its end, u64 ms of this server;
--   it outlives that end, so that the next lease continues the count
-- Versions are compared as four u32: a Lua number is exact only to 2^53, and `<` on strings follows
-- the server's locale. A script must not call GET: that name counts the clients' plain reads.
local HEADER = 38
-- never a token: those are random, or a fence after zeros
local BACK_OFF = string.rep('\255', 16)

-- -1, 0, 1 as version a is older, equal, newer than b
local function compare(a, b)
  local x = {struct.unpack('>I4I4I4I4', a)}
  local y = {struct.unpack('>I4I4I4I4', b)}
  for i = 1, 4 do
    if x[i] ~= y[i] then return x[i] > y[i] and 1 or -1 end
  end
  return 0
end

-- an entry of another format is no entry
local function header(bytes)
  if bytes and #bytes >= HEADER and string.byte(bytes, 1) == 1 then return string.sub(bytes, 1, HEADER) end
end

-- The last argument of a script that asks for the time: '' to ask the server.
local function now()
  return now_us(ARGV[#ARGV])
end
