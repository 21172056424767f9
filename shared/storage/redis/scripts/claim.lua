#!lua flags=allow-oom
-- Take leases under a new epoch and token, or (re-fence) replace the token of one we hold.
--
-- KEYS   one lease hash each
-- ARGV   token, node, lock id ("" = none), ttl in ms, then for each key the token we hold now ("" = none)
-- reply  now in ms, then for each key: granted 1|0, epoch, seq, expires in ms, node, ptoken, pcid
-- cost   O(keys)
-- why atomic: who may claim is decided by what is stored, on the store's own clock.
-- Runs on a full store: a node must be able to start there, and what it writes is small and bounded.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, node, lock, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local reply = { string.format('%.0f', now) }
for i, key in ipairs(KEYS) do
  local held = ARGV[4 + i]
  local lease = redis.call('HMGET', key, 'epoch', 'token', 'expires', 'state', 'lock', 'seq', 'cid', 'node', 'ptoken', 'pcid')
  local epoch, old = tonumber(lease[1] or '0'), lease[2] or ''
  local expires, free = tonumber(lease[3] or '0'), lease[4] ~= 'active'
  local granted
  if held ~= '' then
    granted = old == held
  else
    granted = free or expires <= now or old == token or (lock ~= '' and lease[5] == lock)
  end
  local seq, ptoken, pcid = lease[6] or '0', lease[9] or '', lease[10] or ''
  local owner = lease[8] or ''
  if granted then
    epoch = math.max(epoch + 1, now)
    expires, ptoken, pcid, owner = now + ttl, old, lease[7] or '', node
    redis.call('HSET', key, 'epoch', string.format('%.0f', epoch), 'token', token, 'node', node, 'lock', lock,
      'expires', string.format('%.0f', expires), 'state', 'active', 'seq', seq, 'ptoken', ptoken, 'pcid', pcid)
  end
  local n = #reply
  reply[n + 1] = granted and 1 or 0
  reply[n + 2] = string.format('%.0f', epoch)
  reply[n + 3] = seq
  reply[n + 4] = string.format('%.0f', expires)
  reply[n + 5], reply[n + 6], reply[n + 7] = owner, ptoken, pcid
end
return reply
