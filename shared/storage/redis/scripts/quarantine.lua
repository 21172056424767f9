#!lua flags=allow-oom
-- Begin the next term of an object that has blocked its owner: it is refused until the term is over.
--
-- KEYS   the shard's quarantine (hash of object id -> format byte, count of terms, " ", end in ms)
-- ARGV   object id, first term in ms, longest term in ms, memory of a term that is over in ms, objects at most
-- reply  count of terms, end of the term in ms
-- cost   O(objects in the quarantine)
-- why atomic: a term depends on the one before it, and of two owners that die of one object only the first may begin one.
-- A term that is not over stays as it is, so the same call twice is one. Not fenced: see `shared.storage.quarantines`.
-- Runs on a full store, where an object may block its owner too; what it writes is small and bounded.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, id = KEYS[1], ARGV[1]
local first, longest, memory, objects_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local FORM = '^\1(%d+) (%d+)$'

-- A record in a form that this release does not know counts as none, and is replaced.
local count, ends = string.match(redis.call('HGET', key, id) or '', FORM)
count, ends = tonumber(count or '0'), tonumber(ends or '0')
if count > 0 and ends > now then return { count, string.format('%.0f', ends) } end
if ends + memory <= now then count = 0 end
count, ends = count + 1, now + math.min(longest, first * 2 ^ math.min(count, 60))

local flat, latest, others = redis.call('HGETALL', key), ends, {}
for i = 1, #flat, 2 do
  local other = tonumber((select(2, string.match(flat[i + 1], FORM))) or '0')
  if flat[i] ~= id and other + memory <= now then
    redis.call('HDEL', key, flat[i])
  elseif flat[i] ~= id then
    others[#others + 1] = { other, flat[i] }
    latest = math.max(latest, other)
  end
end
table.sort(others, function(x, y) return x[1] < y[1] end)
for i = 1, #others + 1 - objects_max do redis.call('HDEL', key, others[i][2]) end
redis.call('HSET', key, id, string.format('\1%.0f %.0f', count, ends))
redis.call('PEXPIREAT', key, string.format('%.0f', latest + memory))
return { count, string.format('%.0f', ends) }
