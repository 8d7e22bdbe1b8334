-- entry: 42 bytes + payload                                                              (all big-endian)
--   1 format (2) | 2 kind 'V' value, 'N' absent, 'T' tombstone | 3-18 version, two u64 | 19-26 fence floor, u64
--   27-34 fresh until, u64 ms of this server | 35-38 its ttl, u32 s rounded up | 39-42 load time, u32 us | payload;
--   of kind 'v' and 'n' it begins with the entry's terms, their length before them, u32
-- lease: 16 bytes token | 17-24 fence, u64 | 25-28 failed loads in a row, u32 | 29-36 its ttl, u64 ms | who waits;
--   it expires by its own PX
-- back-off after a failed load: a lease whose token is BACK_OFF, and ttl its length | 37-44 its end, u64 ms of this
--   server; it outlives that end, so that the next lease continues the count
-- Ends are kept beside what was asked for: when this server's clock is set back, they are further away than that.
-- Versions are compared as four u32: a Lua number is exact only to 2^53, and `<` on strings follows
-- the server's locale. A script must not call GET: that name counts the clients' plain reads.
local HEADER = 42
-- the last byte of a lease, with all its waiters
local LEASE = 35 + 16 * WAITERS
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
  if bytes and #bytes >= HEADER and string.byte(bytes, 1) == 2 then return string.sub(bytes, 1, HEADER) end
end

-- For how many more ms an entry is fresh. The second is for clients that estimate this server's clock.
local function fresh_ms(h, us)
  local left = u64(h, 27) - us / 1000
  return left <= (struct.unpack('>I4', h, 35) + 1) * 1000 and left or 0
end

-- The last argument of a script that asks for the time: '' to ask the server.
local function now()
  return now_us(ARGV[#ARGV])
end
