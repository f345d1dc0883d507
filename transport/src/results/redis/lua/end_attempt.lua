-- ARGV: 1 worker, then job ids. The attempts of this worker are over, and it lives.
for i = 2, #ARGV do
  local entry = live(ARGV[i])
  if entry and entry.r == ARGV[1] then
    entry.e = true
    save(ARGV[i], entry)
  end
end
return redis.status_reply('OK')
