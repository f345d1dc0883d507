-- ARGV: job id and job (JSON) by turns. What is known already stays as it is.
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    redis.call('HSETNX', KEYS[8], ARGV[i], ARGV[i + 1])
  end
end
return redis.status_reply('OK')
