-- ARGV: 1 job, 2 offset, 3 text. Answers the length there is now, or -1: the job is not running.
local entry = live(ARGV[1])
if not (entry and entry.r) then return -1 end
local offset = tonumber(ARGV[2])
local text = redis.call('HGET', KEYS[5], ARGV[1]) or ''
if offset == 0 then
  text = ARGV[3]
elseif offset <= #text and offset + #ARGV[3] > #text then
  text = string.sub(text, 1, offset) .. ARGV[3]
else
  return #text
end
redis.call('HSET', KEYS[5], ARGV[1], text)
if not state() then notice(ARGV[1]) end
return #text
