-- ARGV: 1 worker, 2 call, then for each job: id, new live entry (JSON).
-- Answers an attempt number each, 'F' (finished before), 'paused', or 'cancelled' or 'expired', as which
-- it is to be finished.
local answers = {}
local current = state()
local paused = current and redis.call('HGET', KEYS[1], 'paused') == '1'
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local entry = live(id)
  if ended(id, ARGV[i + 1]) then
    answers[#answers + 1] = 'F'
  elseif ENDED[current] then
    answers[#answers + 1] = current
  elseif entry and entry.x then
    answers[#answers + 1] = 'cancelled'
  elseif entry and entry.r and entry.n == ARGV[2] then
    -- The same call again, whose answer was lost.
    answers[#answers + 1] = entry.a
  elseif paused then
    if entry and entry.r then
      -- Who had it before has lost it: its attempt stays counted.
      add('running', -1)
      entry.r, entry.n = nil, nil
      save(id, entry)
    end
    answers[#answers + 1] = 'paused'
  else
    if current and not (entry and entry.r) then add('running', 1) end
    entry = entry or cjson.decode(ARGV[i + 1])
    entry.a = entry.a + 1
    entry.r = ARGV[1]
    entry.n = ARGV[2]
    save(id, entry)
    redis.call('HDEL', KEYS[5], id)
    answers[#answers + 1] = entry.a
  end
end
count()
return answers
