-- ARGV: 1 the last position that moved before or '', 2 the last that moves now, 3 the part (JSON), then
-- job and item by turns. Answers 1, or 0 if others moved on meanwhile.
if (packed() or '') ~= ARGV[1] or not state() then return 0 end
local index = redis.call('HINCRBY', KEYS[1], 'parts', 1) - 1
redis.call('HSET', KEYS[1], 'packed', ARGV[2], 'part:' .. index, ARGV[3])
local size, shards = tonumber(redis.call('HGET', KEYS[1], 'size')), {}
for i = 4, #ARGV, 2 do
  redis.call('HDEL', KEYS[2], ARGV[i])
  local item = tonumber(ARGV[i + 1])
  if item >= 0 and size then shards[math.floor(item / size)] = true end
end
-- By the shard of the manifest: an item is looked for in the few parts that have any of its neighbours.
for shard in pairs(shards) do
  local field = 'in:' .. shard
  local before = redis.call('HGET', KEYS[1], field)
  redis.call('HSET', KEYS[1], field, before and before .. ',' .. index or index)
end
local millis, number = string.match(ARGV[2], '^(%d+)-(%d+)$')
redis.call('XTRIM', KEYS[4], 'MINID', millis .. '-' .. string.format('%.0f', number + 1))
return 1
