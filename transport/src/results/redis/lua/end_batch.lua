-- ARGV: 1 now, 2 'cancelled' or 'expired'. Items not begun count so at once; running ones count when
-- they end. Answers 1, 0 if the batch had ended, nil: no such batch.
local f = redis.call('HMGET', KEYS[1], 'state', 'total', 'finished', 'running')
if not f[1] then return false end
if f[1] ~= 'open' and f[1] ~= 'in_progress' then return 0 end
local rest = tonumber(f[2]) - tonumber(f[3]) - tonumber(f[4])
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'finished_at', ARGV[1])
add(ARGV[2], rest)
add('finished', rest)
announce(ARGV[2])
settle(ARGV[1])
return 1
