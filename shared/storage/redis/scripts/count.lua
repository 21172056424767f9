#!lua flags=allow-oom
-- How many members sorted sets have together. Reads only.
--
-- KEYS   one sorted set each
-- ARGV   none
-- reply  the sum
-- cost   O(keys)
-- why a script: one round trip for all shards. Not `no-writes`: see load.lua.
local sum = 0
for _, key in ipairs(KEYS) do sum = sum + redis.call('ZCARD', key) end
return sum
