#!lua flags=allow-oom
-- Entries of one object's journal, if we still own its shard. Reads only.
--
-- KEYS   lease hash, journal stream
-- ARGV   epoch, token, lowest number, highest number (16 digits at most), rows at most, newest first 1|0
-- reply  seq of the shard (-1 = not ours), then number and entry of each
-- cost   O(rows)
-- why atomic: what is read must be what the owner of this moment may change. Not `no-writes`: see load.lua.
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'token', 'seq')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return { -1 } end
local found
if ARGV[6] == '1' then
  found = redis.call('XREVRANGE', KEYS[2], ARGV[4], ARGV[3], 'COUNT', ARGV[5])
else
  found = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
end
local reply = { lease[3] }
for i, entry in ipairs(found or {}) do  -- No rows asked for: no list.
  reply[2 * i], reply[2 * i + 1] = string.match(entry[1], '^%d+'), entry[2][2]
end
return reply
