-- ARGV: 1 most bytes, then item and job of the manifest by turns. Answers their results in order, '' where
-- there is none; of those that were replaced, that of the last in their place; of one that has moved, '@',
-- parts, a blank and the job. nil: no such batch.
if not state() then return false end
local left, page = tonumber(ARGV[1]), {}
local size = tonumber(redis.call('HGET', KEYS[1], 'size') or 1)
for i = 2, #ARGV, 2 do
  local item, id, by = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 1]
  while by do
    id, by = by, redis.call('HGET', KEYS[1], 'moved:' .. by)
  end
  local text = redis.call('HGET', KEYS[2], id)
  if not text and packed() and redis.call('GETBIT', KEYS[6], item) == 1 then
    local parts = redis.call('HGET', KEYS[1], 'in:' .. math.floor(item / size))
    text = parts and '@' .. parts .. ' ' .. id
  end
  text = text or ''
  if #page > 0 and #text > left then break end
  left = left - #text
  page[#page + 1] = text
end
return page
