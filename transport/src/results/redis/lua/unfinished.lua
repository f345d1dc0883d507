-- ARGV: 1 shard. Answers positions in the shard that are fed and have no result; nil: no such batch.
local shard = tonumber(ARGV[1])
local f = redis.call('HMGET', KEYS[1], 'state', 'size', 'feed_shard', 'feed_offset', 'items:' .. shard)
if not f[1] then return false end
local fed = 0
if shard < tonumber(f[3]) then fed = tonumber(f[5] or 0)
elseif shard == tonumber(f[3]) then fed = tonumber(f[4]) end
local open, first = {}, shard * tonumber(f[2] or 0)
if fed == 0 then return open end
local byte = math.floor(first / 8)
local bits = redis.call('GETRANGE', KEYS[6], byte, math.floor((first + fed - 1) / 8))
for i = 0, fed - 1 do
  local at = first + i
  local value = string.byte(bits, math.floor(at / 8) - byte + 1) or 0
  if math.floor(value / 2 ^ (7 - at % 8)) % 2 == 0 then open[#open + 1] = i end
end
return open
