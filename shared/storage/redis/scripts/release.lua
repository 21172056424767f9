#!lua flags=allow-oom
-- Give up the leases that are still ours, so that the next owner need not wait for them to expire.
--
-- KEYS   one lease hash each
-- ARGV   for each key: epoch, token
-- reply  how many were released
-- cost   O(keys)
-- why atomic: only the present owner may release. Runs on a full store; nothing grows.
local released = 0
for i, key in ipairs(KEYS) do
  local lease = redis.call('HMGET', key, 'epoch', 'token')
  if lease[1] == ARGV[2 * i - 1] and lease[2] == ARGV[2 * i] then
    redis.call('HSET', key, 'state', 'free')
    released = released + 1
  end
end
return released
