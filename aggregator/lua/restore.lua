--[[ restore: make a claimed bucket what Postgres says it is. Counters are set, never added to.

KEYS[1] epoch   KEYS[2] marks   KEYS[3] live hash   KEYS[4] batch under way   KEYS[5] generation   KEYS[6] committed marks
KEYS[7..] counters to forget, then counters to set
ARGV[1] epoch   ARGV[2] run id of the server   ARGV[3] generation   ARGV[4] the last move of Postgres's own that the counters contain
ARGV[5] number of workers, then for each: name, mark
then the number of counters to forget, then for each counter to set: value, expires_at_ms
RETURNS 1 restored: settles are taken, admits wait for open | 0 the claim of this epoch does not stand; nothing was changed
WHY LUA counters, marks and epoch are one state ]]
if redis.call('GET', KEYS[5]) ~= 'claim ' .. ARGV[1] or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[6])
if ARGV[4] ~= '0' then redis.call('HSET', KEYS[2], 'p', ARGV[4]) end
local workers, at = tonumber(ARGV[5]), 6
for _ = 1, workers do
  redis.call('HSET', KEYS[2], 's:' .. ARGV[at], ARGV[at + 1])
  redis.call('HSET', KEYS[6], ARGV[at], ARGV[at + 1])
  at = at + 2
end
local first = 7 + tonumber(ARGV[at])
for i = 7, first - 1 do redis.call('UNLINK', KEYS[i]) end
for i = first, #KEYS do
  local a = at + 1 + (i - first) * 2
  redis.call('SET', KEYS[i], ARGV[a], 'PXAT', ARGV[a + 1])
end
redis.call('SET', KEYS[5], ARGV[3])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' wait')
return 1
