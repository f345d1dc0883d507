-- ARGV: 1 start, 2 most results, 3 most bytes. Answers the cursor and then the results.
-- nil: no such batch.
if not state() then return false end
local max, left = tonumber(ARGV[2]), tonumber(ARGV[3])
local page = { '' }
for _, entry in ipairs(redis.call('XRANGE', KEYS[4], ARGV[1], '+', 'COUNT', max)) do
  if entry[2][1] == 'j' then
    local text = redis.call('HGET', KEYS[2], entry[2][2])
    if #page > 1 and #text > left then break end
    left = left - #text
    page[#page + 1] = text
  end
  page[1] = entry[1]
end
return page
