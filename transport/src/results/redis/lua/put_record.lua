-- KEYS: 1 bodies, 2 names, 3 ends. ARGV: 1 name, 2 body, 3 ttl in ms ('-': for ever), 4 'put' or 'add'.
-- Answers what the record says that is in the way of an 'add'; nil: the new one is kept.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local before = ARGV[4] == 'add' and redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local until_ms, body = string.match(before, '^(%S+) (.*)$')
  if until_ms == '-' or tonumber(until_ms) > now then return body end
end
local until_ms = ARGV[3] == '-' and '-' or string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], until_ms .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
if until_ms == '-' then
  redis.call('ZREM', KEYS[3], ARGV[1])
else
  redis.call('ZADD', KEYS[3], until_ms, ARGV[1])
end
-- Two that are over go for each that comes, so that they do not pile up unseen.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 2)) do
  redis.call('HDEL', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
end
return false
