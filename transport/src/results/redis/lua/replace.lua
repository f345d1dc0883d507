-- ARGV: 1 now, 2 old job, 3 new job, 4 new job (JSON), 5 about the old result (JSON), 6 '1' for a batch.
-- Puts the new job in the place of the old, finished one. Answers 'OK' or what contradicts it.
if not ended(ARGV[2], ARGV[5]) then return 'is not finished' end
local moved = redis.call('HGET', KEYS[1], 'moved:' .. ARGV[2])
if moved == ARGV[3] then return 'OK' end
if moved then return 'is already replaced by ' .. moved end
if ARGV[6] ~= '1' then
  redis.call('HSET', KEYS[1], 'moved:' .. ARGV[2], ARGV[3])
  keep(cjson.decode(ARGV[5]).keep)
  return 'OK'
end
local old = cjson.decode(ARGV[5])
local current = state()
if not current then return 'belongs to a batch that is gone' end
if ENDED[current] then return 'belongs to a batch that is ' .. current end
redis.call('HSET', KEYS[1], 'moved:' .. ARGV[2], ARGV[3])
redis.call('HSET', KEYS[8], ARGV[3], ARGV[4])
add(old.status, -1)
add('prompt_tokens', 0 - old.prompt)
add('completion_tokens', 0 - old.completion)
add('finished', -1)
count()
if old.item >= 0 then redis.call('SETBIT', KEYS[6], old.item, 0) end
if current ~= 'open' then redis.call('HSET', KEYS[1], 'state', 'in_progress') end
redis.call('HDEL', KEYS[1], 'finished_at')
for i = 1, 8 do redis.call('PERSIST', KEYS[i]) end
announce('in_progress')
return 'OK'
