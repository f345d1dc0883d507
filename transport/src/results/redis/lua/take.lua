-- KEYS: 1 allowance. ARGV: 1 slot in ms, 2 slots of the window, 3 limit, 4 cost, 5 ttl in ms.
-- Answers 1 if the cost was taken, the time in ms, and slots with what was taken in each by turns.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slot, cost, total = math.floor(now / ARGV[1]), tonumber(ARGV[4]), 0
local spent = redis.call('HGETALL', KEYS[1])
for i = 1, #spent, 2 do
  if tonumber(spent[i]) < slot - ARGV[2] then
    redis.call('HDEL', KEYS[1], spent[i])
  else
    total = total + spent[i + 1]
  end
end
local taken = total + cost <= tonumber(ARGV[3])
if taken and cost > 0 then
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', slot), ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return { taken and 1 or 0, now, redis.call('HGETALL', KEYS[1]) }
