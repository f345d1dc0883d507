-- KEYS: 1 workers. ARGV: '' or worker, its announcement and its ttl in ms (0: it is leaving).
-- Answers the announcements of the living.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[1] ~= '' then
  if ARGV[3] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[2])
  end
end
local living = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local until_ms, info = string.match(all[i + 1], '^(%d+) (.*)$')
  if tonumber(until_ms) > now then
    living[#living + 1] = info
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return living
