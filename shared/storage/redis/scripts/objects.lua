#!lua flags=allow-oom
-- Encoded addresses of one family (kind and tenant) whose name has a prefix, in byte order, after one. Reads only.
--
-- KEYS   one index each (sorted set, all scores 0)
-- ARGV   encoded kind and tenant, prefix of the name, encoded address to begin after ("" = none), rows of one set at most
-- reply  for each key a list of encoded addresses
-- cost   O(keys x (lengths that names have x log of the set + rows))
-- why a script: one round trip for all shards. Not `no-writes`: see load.lua.
-- A name stands behind its length (two bytes), so the order is by length first, and names with a prefix are one run for
--   each length. Lengths that no name has are jumped over. No UTF-8 text has the byte 255.
local family, prefix, after, rows = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local function length_at(address)
  local high, low = string.byte(address, #family + 1, #family + 2)
  return high * 256 + low
end

local function names_of(length)
  return family .. string.char(math.floor(length / 256), length % 256)
end

local function list(key)
  local found = {}
  local length = after ~= '' and length_at(after) or #prefix
  local from = after ~= '' and '(' .. after or '[' .. names_of(length) .. prefix
  while #found < rows do
    local last = '[' .. names_of(length) .. prefix .. string.rep('\255', length - #prefix)
    local run = redis.call('ZRANGEBYLEX', key, from, last, 'LIMIT', 0, rows - #found)
    for _, address in ipairs(run) do found[#found + 1] = address end
    local past = '(' .. names_of(length) .. string.rep('\255', length)
    local longer = redis.call('ZRANGEBYLEX', key, past, '(' .. family .. '\255', 'LIMIT', 0, 1)[1]
    if not longer then break end
    length = length_at(longer)
    from = '[' .. names_of(length) .. prefix
  end
  return found
end

local reply = {}
for i, key in ipairs(KEYS) do reply[i] = list(key) end
return reply
