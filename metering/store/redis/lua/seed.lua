--[[ seed: write an entitlement and raise its organization's version; counters that begin with it, in the middle of their windows,
say from the first call on what was used in them so far.

KEYS[1] versions   KEYS[2] epoch   KEYS[3] entitlement   KEYS[4..] in turn: a counter that begins, the counter of the period that
always counts
ARGV[1] org   ARGV[2] version   ARGV[3] entitlement; then for each pair: offset (used in the period and not in the window, by the
ledger), expires_at_ms
RETURNS 1 | 0 raised, and nothing seeded: the bucket is being restored, which sets every counter
What the ledger lacks yet is in the period's counter, and of the present window.
WHY LUA between reading the one counter and raising the version no call may be decided; and what begins is told by the entitlement
that stood before: were it written alone, who tries again would find nothing that begins ]]
local shown = redis.call('GET', KEYS[2])
local open = shown and string.sub(shown, -5) ~= ' wait'
for i = 4, #KEYS, 2 do
  if not open then break end
  local used = (redis.call('GET', KEYS[i + 1]) or 0) - ARGV[i]
  redis.call('SET', KEYS[i], string.format('%.0f', used > 0 and used or 0), 'PXAT', ARGV[i + 1])
end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return open and 1 or 0
