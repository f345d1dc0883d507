-- KEYS: 1 bodies, 2 names, 3 ends. ARGV: 1 highest and 2 lowest name, as ZREVRANGEBYLEX has them, 3 how many.
-- Answers names and bodies by turns, from the highest name down.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local high, most = ARGV[1], tonumber(ARGV[3])
local found = {}
while #found < 2 * most do
  local names = redis.call('ZREVRANGEBYLEX', KEYS[2], high, ARGV[2], 'LIMIT', 0, most - #found / 2)
  if #names == 0 then break end
  for _, name in ipairs(names) do
    local until_ms, body = string.match(redis.call('HGET', KEYS[1], name), '^(%S+) (.*)$')
    if until_ms == '-' or tonumber(until_ms) > now then
      found[#found + 1] = name
      found[#found + 1] = body
    else
      redis.call('HDEL', KEYS[1], name)
      redis.call('ZREM', KEYS[2], name)
      redis.call('ZREM', KEYS[3], name)
    end
  end
  high = '(' .. names[#names]
end
return found
