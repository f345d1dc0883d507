-- ARGV: 1 now, 2 job, 3 about (JSON), 4 cancelled result.
-- Answers 1 if it was unfinished: a waiting job has its result now, a running one is asked to stop.
if ended(ARGV[2], ARGV[3]) then return 0 end
local entry = live(ARGV[2])
if entry and entry.r then
  entry.x = true
  save(ARGV[2], entry)
  return 1
end
if not entry and redis.call('HEXISTS', KEYS[8], ARGV[2]) == 0 then return 0 end
local current = state()
finish(ARGV[2], cjson.decode(ARGV[3]), ARGV[4], current)
if current then
  redis.call('HSET', KEYS[1], 'finished_at', ARGV[1])
  settle(ARGV[1])
end
return 1
