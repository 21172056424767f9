#!lua
-- Write one replicated document if its version is the expected one, and log the change.
--
-- KEYS   documents hash, log sorted set (member = field, score = revision), revision counter
-- ARGV   field, expected version (-1 = any; a deleted or absent one counts as 0), live 1|0, body
-- reply  written 1|0, the version that is stored now (0 = absent or deleted)
-- cost   O(log documents)
-- why atomic: compare and set; and the log must name every change.
-- Record: format byte 1, "version changed_ms live\n", body. Versions go on after a deletion.
local old = redis.call('HGET', KEYS[1], ARGV[1])
local version, live = 0, '0'
if old then
  local v, l = string.match(old, '^\1(%d+) %d+ ([01])\n')
  version, live = tonumber(v), l
end
local seen = live == '1' and version or 0
local expected = tonumber(ARGV[2])
if expected >= 0 and expected ~= seen then return { 0, seen } end
if ARGV[3] == '0' and seen == 0 then return { 1, 0 } end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local revision = redis.call('INCR', KEYS[3])
version = version + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('\1%.0f %s %s\n', version, now, ARGV[3]) .. ARGV[4])
redis.call('ZADD', KEYS[2], revision, ARGV[1])
return { 1, ARGV[3] == '1' and version or 0 }
