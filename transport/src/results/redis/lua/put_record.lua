-- KEYS: 1 bodies, 2 names. ARGV: 1 name, 2 body, 3 ttl in ms ('-': for ever).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local until_ms = ARGV[3] == '-' and '-' or string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], until_ms .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
-- Two that may be over go for each that comes, so that they do not pile up unseen.
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, 1)) do
  local over = string.match(redis.call('HGET', KEYS[1], name), '^(%d+) ')
  if over and tonumber(over) <= now then
    redis.call('HDEL', KEYS[1], name)
    redis.call('ZREM', KEYS[2], name)
  end
end
return redis.status_reply('OK')
