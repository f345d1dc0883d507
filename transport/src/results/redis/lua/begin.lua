-- ARGV: 1 now, 2 worker, 3 call, then for each job: id, about (JSON), cancelled result, expired result.
-- Answers an attempt number each, or 'F' (finished before) or 'C' (cancelled or expired in this step).
local answers = {}
for i = 4, #ARGV, 4 do
  local id, about = ARGV[i], cjson.decode(ARGV[i + 1])
  local entry = live(id)
  local current = state()
  if redis.call('HEXISTS', KEYS[2], id) == 1 then
    answers[#answers + 1] = 'F'
  elseif current == 'expired' then
    about.status = 'expired'
    finish(id, about, ARGV[i + 3], ARGV[1])
    answers[#answers + 1] = 'C'
  elseif current == 'cancelled' or (entry and entry.x) then
    about.status = 'cancelled'
    finish(id, about, ARGV[i + 2], ARGV[1])
    answers[#answers + 1] = 'C'
  elseif entry and entry.r and entry.n == ARGV[3] then
    -- The same call again, whose answer was lost.
    answers[#answers + 1] = entry.a
  else
    if current and not (entry and entry.r) then add('running', 1) end
    entry = entry or { a = 0 }
    entry.a = entry.a + 1
    entry.r = ARGV[2]
    entry.n = ARGV[3]
    entry.i = about.item
    entry.c = about.custom_id
    save(id, entry)
    redis.call('HDEL', KEYS[5], id)
    answers[#answers + 1] = entry.a
  end
end
return answers
