-- ARGV: 1 worker, then job ids. What this worker runs is handed back and the attempt not counted.
local current = state()
for i = 2, #ARGV do
  local entry = live(ARGV[i])
  if entry and entry.r == ARGV[1] then
    entry.a = entry.a - 1
    entry.r = nil
    entry.n = nil
    save(ARGV[i], entry)
    redis.call('HDEL', KEYS[5], ARGV[i])
    if current then
      add('running', -1)
      if ENDED[current] then
        add(current, 1)
        add('finished', 1)
      end
    end
  end
end
count()
return redis.status_reply('OK')
