-- ARGV: 1 fencing token, 2 shard, 3 offset, 4 items. Answers 'OK' or what contradicts it; nil: none such.
local f = redis.call('HMGET', KEYS[1], 'state', 'fence', 'feed_shard', 'feed_offset')
if not f[1] then return false end
if tonumber(ARGV[1]) < tonumber(f[2]) then return 'is fed under a newer lease' end
if f[3] ~= ARGV[2] or f[4] ~= ARGV[3] then
  return 'is fed up to shard ' .. f[3] .. ', item ' .. f[4] .. ', not shard ' .. ARGV[2] .. ', item ' .. ARGV[3]
end
local size = tonumber(redis.call('HGET', KEYS[1], 'items:' .. f[3]) or 0)
local offset = tonumber(f[4]) + tonumber(ARGV[4])
if offset > size then return 'has ' .. size .. ' items in shard ' .. f[3] .. ', not ' .. offset end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'fed', ARGV[4])
if offset == size then
  redis.call('HSET', KEYS[1], 'feed_shard', tonumber(f[3]) + 1, 'feed_offset', 0)
else
  redis.call('HSET', KEYS[1], 'feed_offset', offset)
end
return 'OK'
