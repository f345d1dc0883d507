-- ARGV: 1 most bytes, then jobs of the manifest. Answers their results in order, '' where there is none;
-- of those that were replaced, that of the last in their place. nil: no such batch.
if not state() then return false end
local left, page = tonumber(ARGV[1]), {}
for i = 2, #ARGV do
  local id, by = ARGV[i], ARGV[i]
  while by do
    id, by = by, redis.call('HGET', KEYS[1], 'moved:' .. by)
  end
  local text = redis.call('HGET', KEYS[2], id) or ''
  if #page > 0 and #text > left then break end
  left = left - #text
  page[#page + 1] = text
end
return page
