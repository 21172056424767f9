#!lua
-- Apply one flight: a section for each shard, each fenced alone and applied whole or not at all.
--
-- KEYS   for each section: lease, alarms, dead alarms, index, expiries, then for each object its hash or string, and
--          after that of one with flag 64: journal, entries, messages, the shard's outbox, the stem of its index rows
-- ARGV   ttl in ms, full 1|0, number of sections, then for each section:
--          epoch, token, expected seq, commit id, number of objects, and for each object:
--            id, flags (1 clear, 2 gone, 4 sweep, 8 indexed, 16 needs room, 32 native, 64 further parts, always with
--            1, 2 or 4 of one that is not native), expiry in ms (0 = never, -1 = as it is; sweep: not after), then the
--            value of a native one (a string that replaces what is there), and of others:
--              n, n x (field, value) to put;           n, n x field to delete;
--              n, n x (member, due ms) alarms to set;  n, n x member alarms to remove (from both sets);
--              n, n x (member, ms) dead alarms to add; and with flag 64:
--              number of the oldest journal entry to keep (0 = all), number of the first one appended, n, n x entry;
--              n, n x field of an index row to clear;  n, n x (field, record) index rows to set;
--              n, n x field of an entry to remove;     n, n x (field, expiry in ms, value) entries to keep;
--              n, n x message id to remove;            n, n x (message id, message) to send
-- reply  now in ms, then for each section: status (1 ok, 2 fenced, 3 conflict, 4 full), seq, ptoken, pcid
-- cost   O(writes), and for what is cleared, gone or swept O(its fields)
-- why atomic: the proof of ownership and the write must be one step, or a paused former owner could
--   write after its successor. The lease is extended by the same step.
-- A full store refuses this up front. It is then sent once more, with `flags=allow-oom` and full = 1: sections
--   that need room are answered 4 and write nothing, those that only remove are applied.
-- Arguments are walked once without effect before the first write: an error here writes nothing. Numbers have 16
--   characters at most, and those of journal entries 15.
-- Index rows: an object keeps each of its rows in a field of its hash, so that a row can be found and taken away by
--   whoever deletes the object, and a new one replaces the old whatever the owner believes. Their sorted sets are named
--   by what is stored, so KEYS has only their stem; the hash tag in it is that of the section.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%.0f', now + tonumber(ARGV[1]))
local full = ARGV[2] == '1'
local CHUNK = 1000
local TIME, NUMBER = '^%-?%d+$', '^%d+$'
local ROW = '^\1(%-?%d+) (%d+)\n()'
local a, k = 4, 1

-- Longer ones would not be exact in a sorted set, or be refused by a command in the middle of the writes.
local function is_number(text, pattern)
  local number = string.match(text or '', pattern)
  return number and #number < 17
end

-- Step over a list of entries `width` arguments wide, whose second one begins with a number in the form of `pattern`.
local function skip(width, pattern)
  local n = tonumber(ARGV[a])
  assert(n and n >= 0, 'count')
  for i = a + 2, pattern and a + n * width or 0, width do
    assert(is_number(ARGV[i], pattern), 'entry')
  end
  a = a + 1 + n * width
end

local function skip_fields(flags)
  assert(is_number(ARGV[a + 2], TIME) and (flags >= 64 or flags % 8 == 0), 'object')
  a, k = a + 3, k + 1
  skip(2) skip(1) skip(2, TIME) skip(1) skip(2, TIME)
  if flags >= 64 then
    for i = a, a + 1 do assert(string.match(ARGV[i] or '', NUMBER) and #ARGV[i] < 16, 'journal') end
    assert(ARGV[a + 1] ~= '0' or ARGV[a + 2] == '0', 'entries are numbered from 1')
    a, k = a + 2, k + 5
    skip(1) skip(1) skip(2, ROW) skip(1) skip(3, TIME) skip(1) skip(2)
  end
end

local sections = {}
for s = 1, tonumber(ARGV[3]) do
  local objects, needs_room = tonumber(ARGV[a + 4]), false
  local section = { arg = a, key = k, objects = objects }
  a, k = a + 5, k + 5
  for _ = 1, objects do
    local flags = tonumber(ARGV[a + 1])
    if flags % 32 >= 16 then needs_room = true end
    if flags >= 32 and flags < 64 then
      assert(is_number(ARGV[a + 2], NUMBER) and ARGV[a + 3], 'native')
      a, k = a + 4, k + 1
    else
      skip_fields(flags)
    end
  end
  section.needs_room = needs_room
  sections[s] = section
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

-- Call `act` with the arguments of each entry of the list at `a`.
local function for_each(width, act)
  local n = tonumber(ARGV[a])
  for i = a + 1, a + n * width, width do act(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
  a = a + 1 + n * width
end

-- What most flights have no use for is made when the first object asks for it: making functions is not free, and a
-- script makes its own anew at every run.
local rows, parts

local function make_rows()
  -- Take the row that `field` of an object's hash tells of out of its sorted set.
  local function remove(hash, stem, field)
    local record = redis.call('HGET', hash, field)
    if not record then return end
    local _, length, start = string.match(record, ROW)
    local cut = start + tonumber(length)
    redis.call('ZREM', stem .. string.sub(record, start, cut - 1), string.sub(record, cut))
    redis.call('HDEL', hash, field)
  end

  local function set(hash, stem, field, record)
    remove(hash, stem, field)
    local sort_ms, length, start = string.match(record, ROW)
    local cut = start + tonumber(length)
    redis.call('ZADD', stem .. string.sub(record, start, cut - 1), sort_ms, string.sub(record, cut))
    redis.call('HSET', hash, field, record)
  end

  local function remove_all(hash, stem)
    local cursor = '0'
    repeat
      local found = redis.call('HSCAN', hash, cursor, 'MATCH', 'x*', 'COUNT', 100000)
      cursor = found[1]
      for i = 1, #found[2], 2 do remove(hash, stem, found[2][i]) end
    until cursor == '0'
  end

  return { remove = remove, set = set, remove_all = remove_all }
end

local function make_parts()
  -- Append entries and trim. A number that the journal has passed is there already: it is not appended again.
  local function journal(key)
    local keep, number = ARGV[a], tonumber(ARGV[a + 1])
    a = a + 2
    for_each(1, function(entry)
      local added = redis.pcall('XADD', key, string.format('%.0f-0', number), 'e', entry)
      if type(added) == 'table' and not string.find(added.err, 'equal or smaller', 1, true) then error(added.err) end
      number = number + 1
    end)
    if keep ~= '0' then redis.call('XTRIM', key, 'MINID', keep) end
  end

  -- Keep entries until they expire; the whole hash goes with the last of them, also if nobody comes to look.
  local function entries(key)
    local latest = -1
    each('HDEL', key, 1)
    for_each(3, function(field, expiry, value)
      redis.call('HSET', key, field, expiry .. ':' .. value)
      latest = math.max(latest, tonumber(expiry))
    end)
    if latest >= 0 and latest > redis.call('PEXPIRETIME', key) then
      redis.call('PEXPIREAT', key, string.format('%.0f', latest))
    end
  end

  -- Messages are numbered by the shard, so that those of one sender stay in order.
  local function outbox(lease, messages, key, id)
    for_each(1, function(message_id)
      redis.call('HDEL', messages, message_id)
      redis.call('ZREM', key, id .. message_id)
    end)
    for_each(2, function(message_id, message)
      local number = redis.call('HINCRBY', lease, 'sent', 1)
      redis.call('HSET', messages, message_id, string.format('%.0f:', number) .. message)
      redis.call('ZADD', key, number, id .. message_id)
    end)
  end

  return { journal = journal, entries = entries, outbox = outbox }
end

local function write_parts(section, id, gone)
  local hash, journal, entries, messages, outbox, stem = unpack(KEYS, k, k + 5)
  if gone then
    a = a + 2
    skip(1) skip(1) skip(2)
  else
    parts.journal(journal)
    for_each(1, function(field) rows.remove(hash, stem, field) end)
    for_each(2, function(field, record) rows.set(hash, stem, field, record) end)
  end
  parts.entries(entries)
  parts.outbox(KEYS[section.key], messages, outbox, id)
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

local function apply_fields(section, flags)
  local hash, alarms, dead = KEYS[k], KEYS[section.key + 1], KEYS[section.key + 2]
  local index, expiries = KEYS[section.key + 3], KEYS[section.key + 4]
  local id, expiry = ARGV[a], tonumber(ARGV[a + 2])
  a = a + 3
  local clear, gone = flags % 2 >= 1, flags % 4 >= 2
  if flags >= 64 and not rows then rows, parts = make_rows(), make_parts() end
  if flags % 8 >= 4 then
    local score = redis.call('ZSCORE', expiries, id)
    gone = score and tonumber(score) <= expiry and redis.call('EXISTS', KEYS[k + 3]) == 0
    expiry = -1
  end
  if clear or gone then rows.remove_all(hash, KEYS[k + 5]) end
  if gone then redis.call('DEL', hash, KEYS[k + 1]) elseif clear then redis.call('DEL', hash) end
  each('HSET', hash, 2)
  each('HDEL', hash, 1)
  local set = a
  skip(2)
  local removed = a
  each('ZREM', alarms, 1)
  a = removed
  each('ZREM', dead, 1)
  local buried = a
  a = set
  each('ZADD', alarms, 2)
  a = buried
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
  if flags >= 64 then
    write_parts(section, id, gone)
    k = k + 5
  end
end

local function apply(section)
  a, k = section.arg + 5, section.key + 5
  for _ = 1, section.objects do
    local flags = tonumber(ARGV[a + 1])
    if flags >= 32 and flags < 64 then apply_native(KEYS[k], flags) else apply_fields(section, flags) end
    k = k + 1
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
