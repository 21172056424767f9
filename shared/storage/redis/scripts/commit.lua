#!lua
-- Apply one flight: a section for each shard, each fenced alone and applied whole or not at all.
--
-- KEYS   for each section: lease, alarms, dead alarms, index, expiries, then one hash or string for each object
-- ARGV   ttl in ms, full 1|0, number of sections, then for each section:
--          epoch, token, expected seq, commit id, number of objects, and for each object:
--            id, flags (1 clear, 2 gone, 4 sweep, 8 indexed, 16 needs room, 32 native), expiry in ms (0 = never, -1 = as it is;
--            sweep: not after), then the value of a native one (a string that replaces what is there), and of others:
--            n, n x (field, value) to put;           n, n x field to delete;
--            n, n x (member, due ms) alarms to set;  n, n x member alarms to remove (from both sets);
--            n, n x (member, ms) dead alarms to add
-- reply  now in ms, then for each section: status (1 ok, 2 fenced, 3 conflict, 4 full), seq, ptoken, pcid
-- cost   O(writes)
-- why atomic: the proof of ownership and the write must be one step, or a paused former owner could
--   write after its successor. The lease is extended by the same step.
-- A full store refuses this up front. It is then sent once more, with `flags=allow-oom` and full = 1: sections
--   that need room are answered 4 and write nothing, those that only remove are applied.
-- Arguments are walked once without effect before the first write: an error here writes nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%.0f', now + tonumber(ARGV[1]))
local full = ARGV[2] == '1'
local CHUNK = 1000
local a, k = 4, 1

local function skip(width, scored)
  local n = tonumber(ARGV[a])
  assert(n and n >= 0, 'count')
  for i = a + 2, scored and a + 2 * n or 0, 2 do assert(string.match(ARGV[i] or '', '^%-?%d+$'), 'score') end
  a = a + 1 + n * width
end

local sections = {}
for s = 1, tonumber(ARGV[3]) do
  local objects = tonumber(ARGV[a + 4])
  sections[s] = { arg = a, key = k, objects = objects, needs_room = false }
  a, k = a + 5, k + 5 + objects
  for _ = 1, objects do
    local flags = tonumber(ARGV[a + 1])
    assert(flags and tonumber(ARGV[a + 2]), 'object')
    if flags % 32 >= 16 then sections[s].needs_room = true end
    a = a + 3
    if flags >= 32 then
      assert(string.match(ARGV[a - 1], '^%d+$') and ARGV[a], 'native')
      a = a + 1
    else
      skip(2) skip(1) skip(2, true) skip(1) skip(2, true)
    end
  end
end
assert(a == #ARGV + 1 and k == #KEYS + 1, 'arguments do not add up')

-- Run `command key ...` over the list at `a`, `width` arguments an entry; scores come second there, first for ZADD.
local function each(command, key, width)
  local n = tonumber(ARGV[a])
  a = a + 1
  local last = a + n * width
  while a < last do
    local args = {}
    while a < last and #args < CHUNK do
      if command == 'ZADD' then
        args[#args + 1], args[#args + 2] = ARGV[a + 1], ARGV[a]
      else
        for w = 0, width - 1 do args[#args + 1] = ARGV[a + w] end
      end
      a = a + width
    end
    redis.call(command, key, unpack(args))
  end
end

local function apply_native(key, flags)
  local expiry = ARGV[a + 2]
  if flags % 4 >= 2 then
    redis.call('DEL', key)
  elseif expiry == '0' then
    redis.call('SET', key, ARGV[a + 3])
  else
    redis.call('SET', key, ARGV[a + 3], 'PXAT', expiry)
  end
  a = a + 4
end

local function apply_fields(section, key, flags)
  local alarms, dead = KEYS[section.key + 1], KEYS[section.key + 2]
  local index, expiries = KEYS[section.key + 3], KEYS[section.key + 4]
  local id, expiry = ARGV[a], tonumber(ARGV[a + 2])
  a = a + 3
  local clear, gone = flags % 2 >= 1, flags % 4 >= 2
  if flags % 8 >= 4 then
    local score = redis.call('ZSCORE', expiries, id)
    gone = score and tonumber(score) <= expiry
    expiry = -1
  end
  if clear or gone then redis.call('DEL', key) end
  each('HSET', key, 2)
  each('HDEL', key, 1)
  each('ZADD', alarms, 2)
  local removed = a
  each('ZREM', alarms, 1)
  a = removed
  each('ZREM', dead, 1)
  each('ZADD', dead, 2)
  if gone then
    redis.call('ZREM', index, id)
    redis.call('ZREM', expiries, id)
  elseif expiry > 0 then
    redis.call('ZADD', expiries, expiry, id)
  elseif expiry == 0 then
    redis.call('ZREM', expiries, id)
  end
  if flags % 16 >= 8 and not gone then redis.call('ZADD', index, 0, id) end
end

local function apply(section)
  a = section.arg + 5
  for o = 1, section.objects do
    local key, flags = KEYS[section.key + 4 + o], tonumber(ARGV[a + 1])
    if flags >= 32 then apply_native(key, flags) else apply_fields(section, key, flags) end
  end
end

local reply = { string.format('%.0f', now) }
for _, section in ipairs(sections) do
  local i = section.arg
  local epoch, token, seq, cid = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = KEYS[section.key]
  local lease = redis.call('HMGET', key, 'epoch', 'token', 'seq', 'cid', 'ptoken', 'pcid')
  local status, stored = 1, lease[3] or '0'
  if lease[1] ~= epoch or lease[2] ~= token then
    status = 2
  elseif lease[4] == cid then
    redis.call('HSET', key, 'expires', expires)
  elseif stored ~= seq then
    status = 3
  elseif full and section.needs_room then
    status = 4
  else
    apply(section)
    stored = string.format('%.0f', tonumber(seq) + 1)
    redis.call('HSET', key, 'seq', stored, 'cid', cid, 'expires', expires)
  end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = status, stored, lease[5] or '', lease[6] or ''
end
return reply
