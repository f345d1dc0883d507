-- Shared by the scripts that read a batch in order: where its older results went.

-- Whether position `a` of the order is behind `b`.
local function behind(a, b)
  local a1, a2 = string.match(a, '^(%d+)-(%d+)$')
  local b1, b2 = string.match(b, '^(%d+)-(%d+)$')
  a1, b1 = tonumber(a1), tonumber(b1)
  if a1 ~= b1 then return a1 > b1 end
  return tonumber(a2) > tonumber(b2)
end

-- The first part of which `is(part)` holds, as JSON; parts of which it holds follow those of which not.
local function first_part(is)
  local low, high, found = 0, tonumber(redis.call('HGET', KEYS[1], 'parts') or 0), nil
  while low < high do
    local middle = math.floor((low + high) / 2)
    local text = redis.call('HGET', KEYS[1], 'part:' .. middle)
    if is(cjson.decode(text)) then
      high, found = middle, text
    else
      low = middle + 1
    end
  end
  return found, low
end
