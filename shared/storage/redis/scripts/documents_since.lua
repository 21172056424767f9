#!lua flags=allow-oom
-- Replicated documents that changed after a revision, oldest change first. Reads only.
--
-- KEYS   documents hash, log sorted set, revision counter
-- ARGV   revision, rows at most
-- reply  revision to ask from next, more 1|0, then field and record of each
-- cost   O(rows)
-- why atomic: log and documents must be of one moment. A counter below the asked revision means that the
--   store went back in time: everything is sent again. Not `no-writes`: see load.lua.
local newest = tonumber(redis.call('GET', KEYS[3]) or '0')
local since, rows = tonumber(ARGV[1]), tonumber(ARGV[2])
if newest < since then since = 0 end
if newest == since then return { newest, 0 } end
local changed = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', since), '+inf', 'WITHSCORES', 'LIMIT', 0, rows)
local more = #changed / 2 == rows
local reply = { more and tonumber(changed[#changed]) or newest, more and 1 or 0 }
for i = 1, #changed, 2 do
  reply[#reply + 1] = changed[i]
  reply[#reply + 1] = redis.call('HGET', KEYS[1], changed[i])
end
return reply
