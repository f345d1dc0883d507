-- ARGV: job ids. For each: result, live entry, partial text, registered job; '' for what there is not.
local answers = {}
for i = 1, #ARGV do
  for _, k in ipairs({ 2, 3, 5, 8 }) do
    answers[#answers + 1] = redis.call('HGET', KEYS[k], ARGV[i]) or ''
  end
end
return answers
