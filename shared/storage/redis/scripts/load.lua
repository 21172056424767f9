#!lua flags=allow-oom
-- Read objects whole, if we still own their shards.
--
-- KEYS   for each object: lease hash, object hash (native: string)
-- ARGV   for each object: epoch, token, native 1|0
-- reply  now in ms, then for each object: seq of the shard (-1 = not ours), flat list of fields and values
-- cost   O(size of the objects)
-- why atomic: what is read must be what the owner of this moment may change.
-- why not `no-writes`: with that flag a primary that has become a replica would still answer.
local time = redis.call('TIME')
local reply = { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) }
for i = 1, #KEYS / 2 do
  local lease = redis.call('HMGET', KEYS[2 * i - 1], 'epoch', 'token', 'seq')
  if lease[1] == ARGV[3 * i - 2] and lease[2] == ARGV[3 * i - 1] then
    reply[2 * i] = lease[3]
    if ARGV[3 * i] == '1' then
      local value = redis.call('GET', KEYS[2 * i])
      reply[2 * i + 1] = value and { 'n', value } or {}
    else
      reply[2 * i + 1] = redis.call('HGETALL', KEYS[2 * i])
    end
  else
    reply[2 * i] = -1
    reply[2 * i + 1] = {}
  end
end
return reply
