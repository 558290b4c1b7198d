--[[ settle: take one batch of a worker into the live hash, and move the counters that admission did not.

KEYS[1] epoch   KEYS[2] marks   KEYS[3] live hash   KEYS[4..] counters
ARGV[1] tag "<epoch> <run id>"   ARGV[2] worker   ARGV[3] seq   ARGV[4] number of ledger fields
then for each field: field, quantity; then for each counter of KEYS[4..]: delta, expires_at_ms
RETURNS {"unready", epoch value}   nothing was taken
        {"mark", seq}              the last batch taken from this worker; only seq = mark + 1 is ever taken
WHY LUA the mark and what it stands for must move together ]]
local current = redis.call('GET', KEYS[1])
if current ~= ARGV[1] and current ~= ARGV[1] .. ' wait' then return {'unready', current or ''} end
local field, seq = 's:' .. ARGV[2], tonumber(ARGV[3])
local mark = tonumber(redis.call('HGET', KEYS[2], field) or 0)
if seq ~= mark + 1 then return {'mark', mark} end
redis.call('HSET', KEYS[3], '!', '1')
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  redis.call('HINCRBY', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for i = 4, #KEYS do
  redis.call('INCRBY', KEYS[i], ARGV[at])
  redis.call('PEXPIREAT', KEYS[i], ARGV[at + 1])
  at = at + 2
end
redis.call('HSET', KEYS[2], field, ARGV[3])
return {'mark', seq}
