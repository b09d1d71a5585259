#!lua flags=allow-oom
-- One tenant's quota: reserve, renew and settle, after everything that has run out is forgotten. For each move verdict, used, retry.
-- s<second> is what was spent in that second of the window, h<effect> one reservation: its end, second, tokens and places.
-- keys: quota
-- args: tokens_limit places_limit reserved_ms window_s
-- list: verb effect tokens places owner

local window_s, tokens_limit, places_limit = tonumber(A.window_s), tonumber(A.tokens_limit), tonumber(A.places_limit)
local now_s, renewed_ms = math.floor(now_ms / 1000), now_ms + A.reserved_ms
local seconds, holds, spent, places, gone, changed = {}, {}, 0, 0, {}, {}

local function hold_text(hold)
  return string.format('%.0f %.0f %.0f %.0f %s', hold.expires_ms, hold.second, hold.tokens, hold.places, hold.owners)
end

local function keep_second(name, value)
  local second = tonumber(name)
  if math.abs(now_s - second) > window_s then return false end
  seconds[second], spent = tonumber(value), spent + value
  return true
end

local function keep_hold(name, value)
  local hold = hold_at(value)
  if hold.expires_ms <= now_ms then return false end
  if hold.expires_ms > renewed_ms then -- the clock went back
    hold.expires_ms = renewed_ms
    changed['h' .. name] = hold_text(hold)
  end
  holds[name], places = hold, places + hold.places
  return true
end

local function room_in_ms(excess)
  local order = {}
  for second in pairs(seconds) do order[#order + 1] = second end
  table.sort(order)
  for _, second in ipairs(order) do
    excess = excess - seconds[second]
    if excess <= 0 then return (second + window_s + 1) * 1000 - now_ms end
  end
  return window_s * 1000
end

local function spend(second, tokens)
  seconds[second], spent = (seconds[second] or 0) + tokens, spent + tokens
  changed['s' .. string.format('%.0f', second)] = string.format('%.0f', seconds[second])
end

-- The owners without this one, and whether it was among them.
local function without(owners, owner)
  local first, last = string.find(owners, ',' .. owner .. ',', 1, true)
  if not first then return owners, false end
  return string.sub(owners, 1, first) .. string.sub(owners, last + 1), true
end

local function reserve(effect, tokens, wanted, owner)
  if places_limit > 0 and places + wanted > places_limit then return { 'places', places, 0 } end
  if tokens_limit > 0 and spent + tokens > tokens_limit then
    return { 'tokens', spent, room_in_ms(spent + tokens - tokens_limit) }
  end
  holds[effect] = { expires_ms = renewed_ms, second = now_s, tokens = tokens, places = wanted,
    owners = ',' .. owner .. ',' }
  places = places + wanted
  spend(now_s, tokens)
  changed['h' .. effect] = hold_text(holds[effect])
  return { 'done', 0, 0 }
end

local function move(verb, effect, tokens, wanted, owner)
  local hold = holds[effect]
  if not hold and verb == 'reserve' then return reserve(effect, tokens, wanted, owner) end
  local others, owned = without(hold and hold.owners or '', owner)
  if not (owned or hold and verb == 'reserve') then return { 'gone', 0, 0 } end
  if verb == 'settle' and others ~= ',' then
    hold.owners = others
    changed['h' .. effect] = hold_text(hold)
  elseif verb == 'settle' then
    holds[effect], places = nil, places - hold.places
    if seconds[hold.second] then spend(hold.second, tokens - hold.tokens) end -- else it has left the window already
    changed['h' .. effect], gone[#gone + 1] = nil, 'h' .. effect
  else -- a repeated reservation is the same one
    hold.expires_ms, hold.owners = renewed_ms, others .. owner .. ','
    changed['h' .. effect] = hold_text(hold)
  end
  return { 'done', 0, 0 }
end

local fields = redis.call('HGETALL', K.quota)
for i = 1, #fields, 2 do
  local keep = string.sub(fields[i], 1, 1) == 's' and keep_second or keep_hold
  if not keep(string.sub(fields[i], 2), fields[i + 1]) then gone[#gone + 1] = fields[i] end
end
local answers = {}
for i = REST + 1, #ARGV, 5 do
  answers[#answers + 1] = move(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), ARGV[i + 4])
end
for _, field in ipairs(gone) do redis.call('HDEL', K.quota, field) end
for field, value in pairs(changed) do redis.call('HSET', K.quota, field, value) end
redis.call('PEXPIRE', K.quota, A.reserved_ms + (window_s + 1) * 1000)
return { 'OK', answers }
