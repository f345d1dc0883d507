-- KEYS: 1 lease. ARGV: 1 holder, 2 token.
local f = redis.call('HMGET', KEYS[1], 'holder', 'token')
if f[1] == ARGV[1] and f[2] == ARGV[2] then redis.call('DEL', KEYS[1]) end
return redis.status_reply('OK')
