-- ARGV: 1 batch (JSON), 2 retention in seconds. Doing it again is the same.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'batch', ARGV[1], 'retention', ARGV[2], 'state', 'open',
    'total', 0, 'fed', 0, 'finished', 0, 'running', 0, 'feed_shard', 0, 'feed_offset', 0, 'fence', 0)
end
return redis.status_reply('OK')
