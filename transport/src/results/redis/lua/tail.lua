-- ARGV: 1 start, 2 most results, 3 most bytes. Answers the cursor and then the results.
-- nil: no such batch. Passes over changes of state and results that were replaced. Where the next ones
-- have moved, it answers '@' and their part.
if not state() then return false end
local from, max, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if packed() then
  local cursor = from == '-' and '0-0' or string.sub(from, 2)
  local part = first_part(function(part) return behind(part.last, cursor) end)
  if part then return { '@', part } end
end
local page, at_once = { '' }, math.max(max, 100)
while #page <= max do
  local entries = redis.call('XRANGE', KEYS[4], from, '+', 'COUNT', at_once)
  for _, entry in ipairs(entries) do
    local id = entry[2][1] == 'j' and entry[2][2]
    if id and redis.call('HEXISTS', KEYS[1], 'moved:' .. id) == 0 then
      local text = redis.call('HGET', KEYS[2], id)
      if #page > max or #page > 1 and #text > left then return page end
      left = left - #text
      page[#page + 1] = text
    end
    page[1] = entry[1]
  end
  if #entries < at_once then break end
  from = '(' .. page[1]
end
return page
