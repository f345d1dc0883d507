-- ARGV: job ids. Answers 1 for each that shall stop.
local answers = {}
local ended = ENDED[state()]
for i = 1, #ARGV do
  local entry = live(ARGV[i])
  answers[i] = (ended or (entry and entry.x)) and 1 or 0
end
return answers
