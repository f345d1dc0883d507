-- pause
-- ARGV: 1 '1' or '0'. Answers 1, 0 if the batch had ended, nil: no such batch.
local f = redis.call('HMGET', KEYS[1], 'batch', 'state', 'paused')
if not f[1] then return false end
if f[2] ~= 'open' and f[2] ~= 'in_progress' then return 0 end
if (f[3] or '0') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'paused', ARGV[1])
  announce('paused')
end
return 1
