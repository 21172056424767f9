#!lua flags=allow-oom
-- Messages that wait to be delivered, oldest first, each shard after a number of its own. Reads only.
--
-- KEYS   for each shard: its outbox (sorted set, score = number of the message), the stem of the keys of messages
-- ARGV   bytes of a message id, rows of one shard at most, then for each shard the number to begin after
-- reply  for each shard a flat list of object id, message id and "number:message"
-- cost   O(shards + rows)
-- why atomic: a row and its message must be of one moment. Not `no-writes`: see load.lua.
local id_bytes, rows = tonumber(ARGV[1]), ARGV[2]
local reply = {}
for i = 1, #KEYS / 2 do
  local flat = {}
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2 * i - 1], '(' .. ARGV[2 + i], '+inf', 'LIMIT', 0, rows)) do
    local object_id, message_id = string.sub(row, 1, -1 - id_bytes), string.sub(row, -id_bytes)
    local n = #flat
    flat[n + 1], flat[n + 2] = object_id, message_id
    flat[n + 3] = redis.call('HGET', KEYS[2 * i] .. object_id, message_id)
  end
  reply[i] = flat
end
return reply
