-- Answers batch, state, shard or '', offset, outstanding, 1 if paused; nil: no such batch.
local f = redis.call('HMGET', KEYS[1], 'batch', 'state', 'feed_shard', 'feed_offset', 'fed', 'finished',
  'running', 'paused')
if not f[1] then return false end
local shard, outstanding = '', tonumber(f[7])
if not (ENDED[f[2]]) then
  shard = redis.call('HGET', KEYS[1], 'shard:' .. f[3]) or ''
  -- What was published may be finished before it is marked as fed.
  outstanding = math.max(0, tonumber(f[5]) - tonumber(f[6]))
end
return { f[1], f[2], shard, tonumber(f[4]), outstanding, tonumber(f[8] or 0) }
