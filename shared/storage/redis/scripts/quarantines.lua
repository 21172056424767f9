#!lua flags=allow-oom
-- What is remembered of objects that blocked their owners. Reads only.
--
-- KEYS   one quarantine each (hash)
-- ARGV   none
-- reply  for each key a flat list of object id and record
-- cost   O(keys + objects in quarantine)
-- why a script: one round trip for all shards. Not `no-writes`: see load.lua.
local reply = {}
for i, key in ipairs(KEYS) do reply[i] = redis.call('HGETALL', key) end
return reply
