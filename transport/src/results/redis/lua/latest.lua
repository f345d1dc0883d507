-- ARGV: 1 start, 2 most results, 3 most bytes. Answers the cursor and then the results, the newest
-- first; changes of state are passed over. nil: no such batch.
if not state() then return false end
local start, max, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local page, full = { '' }, false
repeat
  local entries = redis.call('XREVRANGE', KEYS[4], start, '-', 'COUNT', max + 1 - #page)
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'j' then
      local text = redis.call('HGET', KEYS[2], entry[2][2])
      full = #page > 1 and #text > left
      if full then break end
      left = left - #text
      page[#page + 1] = text
    end
    page[1] = entry[1]
  end
  start = '(' .. page[1]
until full or #page > max or #entries == 0
return page
