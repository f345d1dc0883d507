-- ARGV: 1 start, 2 most results, 3 most bytes. Answers the cursor and then the results, the newest
-- first; changes of state, and results that were replaced, are passed over. Where the next ones have moved,
-- it answers '@' and their part. nil: no such batch.
if not state() then return false end
local start, max, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local page, full = { '' }, false
repeat
  local entries = redis.call('XREVRANGE', KEYS[4], start, '-', 'COUNT', max + 1 - #page)
  for _, entry in ipairs(entries) do
    local id = entry[2][1] == 'j' and entry[2][2]
    if id and redis.call('HEXISTS', KEYS[1], 'moved:' .. id) == 0 then
      local text = redis.call('HGET', KEYS[2], id)
      full = #page > 1 and #text > left
      if full then break end
      left = left - #text
      page[#page + 1] = text
    end
    page[1] = entry[1]
  end
  start = '(' .. page[1]
until full or #page > max or #entries == 0
if #page > 1 or not packed() then return page end
local cursor = ARGV[1] ~= '+' and string.sub(ARGV[1], 2)
local _, first = first_part(function(part) return cursor and not behind(cursor, part.first) end)
local part = redis.call('HGET', KEYS[1], 'part:' .. first - 1)
return part and { '@', part } or page
