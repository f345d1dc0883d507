-- ARGV: job ids. Answers 1 for each that shall stop; a finished one has nothing to stop.
local answers = {}
local ended = ENDED[state()]
for i = 1, #ARGV do
  local entry = live(ARGV[i])
  local stop = ended or (entry and entry.x)
  answers[i] = (stop and redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0) and 1 or 0
end
return answers
