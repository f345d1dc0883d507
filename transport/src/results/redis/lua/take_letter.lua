-- ARGV: 1 job. Removes and returns its dead letter.
local letter = redis.call('HGET', KEYS[7], ARGV[1])
if letter then redis.call('HDEL', KEYS[7], ARGV[1]) end
return letter
