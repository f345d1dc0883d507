-- Shared by every script on a home: a batch, or a single job standing for itself.
-- KEYS: 1 record, 2 results, 3 live, 4 order, 5 partial, 6 done, 7 letters, 8 jobs.
local ENDED = { cancelled = true, expired = true }

local function state() return redis.call('HGET', KEYS[1], 'state') end

-- Counters move once a script, however many jobs it is about: `count` writes what `add` gathered.
local moved = {}

local function add(field, n) moved[field] = (moved[field] or 0) + n end

local function count()
  for field, n in pairs(moved) do
    if n ~= 0 then redis.call('HINCRBY', KEYS[1], field, n) end
  end
  moved = {}
end

local function live(id)
  local text = redis.call('HGET', KEYS[3], id)
  return text and cjson.decode(text) or nil
end

local function save(id, entry) redis.call('HSET', KEYS[3], id, cjson.encode(entry)) end

-- Up to where in the order the results have moved to the media store; false: none have.
local moved_up_to

local function packed()
  if moved_up_to == nil then moved_up_to = redis.call('HGET', KEYS[1], 'packed') end
  return moved_up_to
end

-- Whether a job has a result that is not here any more. `about` (JSON) says its item.
local function gone(id, about)
  if not packed() then return false end
  if redis.call('HEXISTS', KEYS[1], 'moved:' .. id) == 1 then return true end
  local r = cjson.decode(about)
  local item = r.i or r.item
  return item >= 0 and redis.call('GETBIT', KEYS[6], item) == 1
end

-- Whether a job has a result, wherever it is.
local function ended(id, about)
  return redis.call('HEXISTS', KEYS[2], id) == 1 or gone(id, about)
end

-- Wakes those who wait for a change of state; a reader of results passes over it.
local function announce(what) redis.call('XADD', KEYS[4], '*', 's', what) end

-- Tells those who wait for a job of no batch that it may have changed: a hint, without which they look later.
local function notice(id) redis.pcall('PUBLISH', 'lapidary:notices', id) end

-- Keeps everything of the home for `seconds` from now on.
local function keep(seconds)
  for i = 1, 8 do redis.call('EXPIRE', KEYS[i], seconds) end
end

-- Writes the counters. A batch whose items are all known and all finished is completed.
local function settle(now)
  count()
  local f = redis.call('HMGET', KEYS[1], 'state', 'total', 'finished', 'retention')
  if f[1] == 'in_progress' and tonumber(f[2]) == tonumber(f[3]) then
    redis.call('HSET', KEYS[1], 'state', 'completed', 'finished_at', now)
    announce('completed')
    keep(f[4])
  elseif ENDED[f[1]] or f[1] == 'completed' then
    keep(f[4])
  end
end

-- Ends a job with the result `text` where the batch is `current`, nil for a job of none. Counters
-- move in this very script: `settle` follows.
local function finish(id, r, text, current)
  local entry = live(id)
  redis.call('HSET', KEYS[2], id, text)
  if entry then redis.call('HDEL', KEYS[3], id) end
  redis.call('HDEL', KEYS[5], id)
  redis.call('HDEL', KEYS[8], id)
  redis.call('XADD', KEYS[4], '*', 'j', id)
  if not current then
    notice(id)
    keep(r.keep)
    return
  end
  local running = entry and entry.r
  if running then add('running', -1) end
  if ENDED[current] and not running then
    -- It was counted when the batch ended.
    add(current, -1)
  else
    add('finished', 1)
  end
  add(r.status, 1)
  add('prompt_tokens', r.prompt)
  add('completion_tokens', r.completion)
  if r.item >= 0 then redis.call('SETBIT', KEYS[6], r.item, 1) end
end
