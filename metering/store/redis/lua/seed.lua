--[[ seed: raise an organization's version; counters that begin with it, in the middle of their windows, say from the first call on
what was used in them so far.

KEYS[1] versions   KEYS[2] epoch   KEYS[3..] in turn: a counter that begins, the counter of the period that always counts
ARGV[1] org   ARGV[2] version; then for each pair: offset (used in the period and not in the window, by the ledger), expires_at_ms
RETURNS 1 | 0 raised, and nothing seeded: the bucket is being restored, which sets every counter
What the ledger lacks yet is in the period's counter, and of the present window.
WHY LUA between reading the one counter and raising the version no call may be decided ]]
local shown = redis.call('GET', KEYS[2])
local open = shown and string.sub(shown, -5) ~= ' wait'
for i = 3, #KEYS, 2 do
  if not open then break end
  local used = (redis.call('GET', KEYS[i + 1]) or 0) - ARGV[i]
  redis.call('SET', KEYS[i], string.format('%.0f', used > 0 and used or 0), 'PXAT', ARGV[i + 1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return open and 1 or 0
