#!lua flags=allow-oom
-- Take leases under a new epoch and token, or (re-fence) only those that are ours already.
--
-- KEYS   one lease hash each
-- ARGV   token, node, lock id ("" = none), ttl in ms, then for each key: the epoch of the newest claim that we know
--          to have been granted (0 = none), re-fence 1|0
-- reply  now in ms, then for each key: granted 1|0, epoch, seq, expires in ms, node, ptoken, pcid
-- cost   O(keys)
-- why atomic: who may claim is decided by what is stored, on the store's own clock.
-- Runs on a full store: a node must be able to start there, and what it writes is small and bounded.
-- Tokens begin with 16 random bytes of their process and then count its claims. A lease under an earlier token of the
--   claimer is its own, be its end in the future or the past; one under a later token makes the claim a late copy.
-- ptoken and pcid tell what was before what the claimer knows. A claim of its own whose reply was lost is not before
--   it: nothing was done under that token, so what it found stays.
-- An epoch is beyond every one that the claimer knows, also on a store that went back in time and whose clock is behind.
-- Lua compares strings by the server's locale; tokens are compared by their bytes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, node, lock, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local function is_kin(a, b)
  return string.sub(a, 1, 16) == string.sub(b, 1, 16)
end

local function is_before(a, b)
  for i = 1, #b do
    local x, y = string.byte(a, i) or -1, string.byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end

local reply = { string.format('%.0f', now) }
for i, key in ipairs(KEYS) do
  local known, refence = tonumber(ARGV[3 + 2 * i]), ARGV[4 + 2 * i] == '1'
  local lease = redis.call('HMGET', key, 'epoch', 'token', 'expires', 'state', 'lock', 'seq', 'cid', 'node', 'ptoken', 'pcid')
  local epoch, old = tonumber(lease[1] or '0'), lease[2] or ''
  local expires, free = tonumber(lease[3] or '0'), lease[4] ~= 'active'
  local own = is_kin(old, token)
  local granted
  if own then
    granted = is_before(old, token)
  else
    granted = not refence and (free or expires <= now or (lock ~= '' and lease[5] == lock))
  end
  local seq, ptoken, pcid = lease[6] or '0', lease[9] or '', lease[10] or ''
  local owner = lease[8] or ''
  if granted then
    if not (own and epoch > known) then ptoken, pcid = old, lease[7] or '' end
    epoch = math.max(epoch + 1, known + 1, now)
    expires, owner = now + ttl, node
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
