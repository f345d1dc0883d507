-- ARGV: 1 now. Answers 1, or nil: no such batch.
local current = state()
if not current then return false end
if current == 'open' then
  redis.call('HSET', KEYS[1], 'state', 'in_progress')
  announce('in_progress')
  settle(ARGV[1])
end
return 1
