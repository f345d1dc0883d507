-- ARGV: 1 now, then for each job: id, about (JSON), result, dead letter or ''.
-- Answers '' where the result was stored, or the result the job had; '@' if that one has moved.
local answers = {}
local current, stored = state(), false
for i = 2, #ARGV, 4 do
  local id = ARGV[i]
  local before = redis.call('HGET', KEYS[2], id)
  if before then
    answers[#answers + 1] = before
  elseif gone(id, ARGV[i + 1]) then
    answers[#answers + 1] = '@'
  else
    if ARGV[i + 3] ~= '' then redis.call('HSET', KEYS[7], id, ARGV[i + 3]) end
    finish(id, cjson.decode(ARGV[i + 1]), ARGV[i + 2], current)
    answers[#answers + 1] = ''
    stored = true
  end
end
if stored and current then
  redis.call('HSET', KEYS[1], 'finished_at', ARGV[1])
  settle(ARGV[1])
end
return answers
