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
local rows, at = tonumber(ARGV[4]), 5
while rows > 0 do -- a thousand at once: a command costs more than what it does for one field
  local some, fields, sums = math.min(rows, 1000), {}, {}
  for i = 1, some do fields[i] = ARGV[at + 2 * i - 2] end
  local before = redis.call('HMGET', KEYS[3], unpack(fields))
  for i = 1, some do
    local sum = ARGV[at + 2 * i - 1]
    if before[i] then sum = string.format('%.0f', before[i] + sum) end
    if #sum > 15 then -- Lua's numbers are exact only so far
      redis.call('HINCRBY', KEYS[3], fields[i], ARGV[at + 2 * i - 1])
    else
      sums[#sums + 1] = fields[i]
      sums[#sums + 1] = sum
    end
  end
  if #sums > 0 then redis.call('HSET', KEYS[3], unpack(sums)) end
  at, rows = at + 2 * some, rows - some
end
for i = 4, #KEYS do
  local delta = ARGV[at]
  if redis.call('INCRBY', KEYS[i], delta) == tonumber(delta) then redis.call('PEXPIREAT', KEYS[i], ARGV[at + 1]) end -- it begins here
  at = at + 2
end
redis.call('HSET', KEYS[2], field, ARGV[3])
return {'mark', seq}
