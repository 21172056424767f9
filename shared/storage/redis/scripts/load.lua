#!lua flags=allow-oom
-- Read objects whole, if we still own their shards.
--
-- KEYS   for each object: lease hash, the shard's quarantine, object hash (native: string), and if it is not native:
--        entries, messages
-- ARGV   for each object: epoch, token, native 1|0, id
-- reply  now in ms, then for each object: seq of the shard (-1 = not ours), its record in the quarantine ("" = none),
--        flat list of fields and values, and if it is not native: flat lists of entries ("expiry:value") and of
--        messages ("number:message")
-- cost   O(size of the objects)
-- why atomic: what is read must be what the owner of this moment may change. Entries that have expired are dropped.
-- why not `no-writes`: with that flag a primary that has become a replica would still answer.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function entries(key)
  local flat, kept = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    if tonumber(string.match(flat[i + 1], '^%-?%d+')) <= now then
      redis.call('HDEL', key, flat[i])
    else
      kept[#kept + 1], kept[#kept + 2] = flat[i], flat[i + 1]
    end
  end
  return kept
end

local reply, k = { string.format('%.0f', now) }, 1
for i = 1, #ARGV, 4 do
  local native = ARGV[i + 2] == '1'
  local lease = redis.call('HMGET', KEYS[k], 'epoch', 'token', 'seq')
  local ours, n = lease[1] == ARGV[i] and lease[2] == ARGV[i + 1], #reply
  reply[n + 1] = ours and lease[3] or -1
  reply[n + 2] = ours and redis.call('HGET', KEYS[k + 1], ARGV[i + 3]) or ''
  if native then
    local value = ours and redis.call('GET', KEYS[k + 2])
    reply[n + 3] = value and { 'n', value } or {}
    k = k + 3
  else
    local parts = ours and redis.call('EXISTS', KEYS[k + 3], KEYS[k + 4]) > 0
    reply[n + 3] = ours and redis.call('HGETALL', KEYS[k + 2]) or {}
    reply[n + 4] = parts and entries(KEYS[k + 3]) or {}
    reply[n + 5] = parts and redis.call('HGETALL', KEYS[k + 4]) or {}
    k = k + 5
  end
end
return reply
