#!lua flags=allow-oom
-- One field of each of some objects. Reads only.
--
-- KEYS   one object hash each
-- ARGV   for each key the field
-- reply  for each key its value, or nothing where it is not there
-- cost   O(keys)
-- why a script: one round trip for all rows of a listing. Not `no-writes`: see load.lua.
local reply = {}
for i, key in ipairs(KEYS) do reply[i] = redis.call('HGET', key, ARGV[i]) end
return reply
