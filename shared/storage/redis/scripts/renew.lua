#!lua flags=allow-oom
-- Extend the leases that are still ours. A late renewal is allowed: nobody claimed in between.
--
-- KEYS   one lease hash each
-- ARGV   ttl in ms, then for each key: epoch, token
-- reply  now in ms, then for each key its seq, or -1 where it is not ours
-- cost   O(keys)
-- why atomic: an owner must not extend what another process has claimed meanwhile.
-- Runs on a full store, or a lack of memory would cost the leases too; nothing grows.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%.0f', now + tonumber(ARGV[1]))
local reply = { string.format('%.0f', now) }
for i, key in ipairs(KEYS) do
  local lease = redis.call('HMGET', key, 'epoch', 'token', 'seq')
  if lease[1] == ARGV[2 * i] and lease[2] == ARGV[2 * i + 1] then
    redis.call('HSET', key, 'expires', expires)
    reply[i + 1] = lease[3]
  else
    reply[i + 1] = -1
  end
end
return reply
