-- ARGV: 1 worker, 2 call, then for each job: id, new live entry (JSON).
-- Answers the number of the attempt and how many workers were lost before each, 'F' (finished before),
-- 'paused', or 'cancelled' or 'expired', as which it is to be finished.
local answers = {}
local current = state()
local paused = current and redis.call('HGET', KEYS[1], 'paused') == '1'
-- Who had it before may have been lost on it: by that a job is suspected.
local function left(entry)
  if entry.r and entry.r ~= ARGV[1] and not entry.e then entry.l = (entry.l or 0) + 1 end
  entry.e = nil
end

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
    answers[#answers + 1] = entry.a .. ' ' .. (entry.l or 0)
  elseif paused then
    if entry and entry.r then
      -- Who had it before has lost it: its attempt stays counted.
      add('running', -1)
      left(entry)
      entry.r, entry.n = nil, nil
      save(id, entry)
    end
    answers[#answers + 1] = 'paused'
  else
    if current and not (entry and entry.r) then add('running', 1) end
    entry = entry or cjson.decode(ARGV[i + 1])
    entry.a = entry.a + 1
    left(entry)
    entry.r = ARGV[1]
    entry.n = ARGV[2]
    save(id, entry)
    redis.call('HDEL', KEYS[5], id)
    answers[#answers + 1] = entry.a .. ' ' .. (entry.l or 0)
  end
end
count()
return answers
