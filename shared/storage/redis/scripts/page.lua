#!lua flags=allow-oom
-- Some rows of sorted sets, in order of (score, member), after a place in that order. Reads only.
--
-- KEYS   one sorted set each (score = time in ms)
-- ARGV   rows of one set at most, then to begin after a place: its score, its member (it need not be there any more)
-- reply  for each key a flat list of members and scores
-- cost   O(keys x log^2 of the set + rows)
-- why a script: one round trip for all shards. Not `no-writes`: see load.lua.
-- Lua compares strings by the server's locale; the order of a sorted set is that of the bytes.
local rows, score, member = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local function is_after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

-- The rank of the first row after the place: among those of its score it is searched by halves.
local function first(key)
  if not score then return 0 end
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', key, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_after(redis.call('ZRANGE', key, middle, middle)[1], member) then high = middle else low = middle + 1 end
  end
  return low
end

local reply = {}
for i, key in ipairs(KEYS) do
  if rows == 0 then
    reply[i] = {}
  else
    local from = first(key)
    reply[i] = redis.call('ZRANGE', key, from, from + rows - 1, 'WITHSCORES')
  end
end
return reply
