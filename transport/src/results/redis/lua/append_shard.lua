-- ARGV: 1 index, 2 items, 3 shard (JSON). Answers 'OK' or what contradicts it; nil: no such batch.
local f = redis.call('HMGET', KEYS[1], 'state', 'shards', 'size')
if not f[1] then return false end
local index, items, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(f[2] or 0)
if index < count then
  if redis.call('HGET', KEYS[1], 'shard:' .. index) == ARGV[3] then return 'OK' end
  return 'has another shard ' .. index .. ' already'
end
if f[1] ~= 'open' then return 'is ' .. f[1] .. ' and takes no more shards' end
if index > count then return 'has ' .. count .. ' shards, so the next is not shard ' .. index end
local size = tonumber(f[3] or items)
if items > size then return 'has shards of ' .. size .. ' items, not ' .. items end
if redis.call('HGET', KEYS[1], 'short') then return 'has its last, shorter shard already' end
if items < size then redis.call('HSET', KEYS[1], 'short', 1) end
redis.call('HSET', KEYS[1], 'shard:' .. index, ARGV[3], 'items:' .. index, items,
  'shards', count + 1, 'size', size)
redis.call('HINCRBY', KEYS[1], 'total', items)
return 'OK'
