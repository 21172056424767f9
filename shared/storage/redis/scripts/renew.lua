#!lua flags=allow-oom
-- Extend the leases that are still ours. A late renewal is allowed: nobody claimed in between.
--
-- KEYS   one lease hash each
-- ARGV   ttl in ms, then for each run of keys that have been claimed together: how many, their epoch, their token
-- reply  now in ms, then for each key its seq, or -1 where it is not ours
-- cost   O(keys)
-- why atomic: an owner must not extend what another process has claimed meanwhile.
-- Runs on a full store, or a lack of memory would cost the leases too; nothing grows.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%.0f', now + tonumber(ARGV[1]))
local reply = { string.format('%.0f', now) }
local at, left = 2, 0
local epoch, token
for i, key in ipairs(KEYS) do
  if left == 0 then
    left, epoch, token = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
    at = at + 3
  end
  left = left - 1
  local lease = redis.call('HMGET', key, 'epoch', 'token', 'seq')
  if lease[1] == epoch and lease[2] == token then
    redis.call('HSET', key, 'expires', expires)
    reply[i + 1] = lease[3]
  else
    reply[i + 1] = -1
  end
end
return reply
