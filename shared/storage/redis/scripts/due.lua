#!lua flags=allow-oom
-- What has come due in sorted sets of times, oldest first. Reads only.
--
-- KEYS   one sorted set each (score = time in ms)
-- ARGV   until in ms ("" = now), rows of one set at most,
--        then for each key from when in ms ("-inf" = the oldest), and how many of those to pass over
-- reply  now in ms, then for each key a flat list of members and scores
-- cost   O(keys + rows + rows passed over)
-- why a script: one round trip for all shards, and "now" is the store's. Not `no-writes`: see load.lua.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local until_ms = ARGV[1] == '' and now or ARGV[1]
local reply = { now }
for i, key in ipairs(KEYS) do
  local from_ms, passed = ARGV[2 * i + 1], ARGV[2 * i + 2]
  reply[i + 1] = redis.call('ZRANGEBYSCORE', key, from_ms, until_ms, 'WITHSCORES', 'LIMIT', passed, ARGV[2])
end
return reply
