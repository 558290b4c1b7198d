--[[ settle: take one batch of a worker into the live hash, and move the counters that admission did not.

KEYS[1] epoch   KEYS[2] marks   KEYS[3] live hash   KEYS[4..] counters
ARGV[1] tag "<epoch> <run id>"   ARGV[2] worker   ARGV[3] seq   ARGV[4] number of ledger fields
then the fields, then the quantity of each; then for each counter of KEYS[4..]: delta, expires_at_ms
RETURNS {"unready", epoch value}   nothing was taken
        {"mark", seq}              the last batch taken from this worker; only seq = mark + 1 is ever taken
WHY LUA the mark and what it stands for must move together ]]
local call, keys, args = redis.call, KEYS, ARGV
local current = call('GET', keys[1])
if current ~= args[1] and current ~= args[1] .. ' wait' then return {'unready', current or ''} end
local field, seq = 's:' .. args[2], tonumber(args[3])
local mark = tonumber(call('HGET', keys[2], field) or 0)
if seq ~= mark + 1 then return {'mark', mark} end
local EXACT = 1e15 -- Lua's numbers are exact only so far
local rows, sums, n = tonumber(args[4]), {'!', '1'}, 2
for at = 5, 4 + rows, 1000 do -- a thousand at once: a command costs more than what it does for one field
  local upto = math.min(at + 999, 4 + rows)
  local before = call('HMGET', keys[3], unpack(args, at, upto))
  for i = at, upto do
    local was, sum = before[i - at + 1], args[i + rows]
    if was then
      local total = was + sum
      if total >= EXACT or total <= -EXACT or sum + 0 >= EXACT or sum + 0 <= -EXACT then
        call('HINCRBY', keys[3], args[i], sum)
        sum = nil
      else
        sum = total
      end
    end
    if sum then
      sums[n + 1], sums[n + 2] = args[i], sum
      n = n + 2
    end
  end
  if n > 0 then call('HSET', keys[3], unpack(sums)) end
  sums, n = {}, 0
end
if n > 0 then call('HSET', keys[3], unpack(sums)) end
local at = 5 + 2 * rows
for i = 4, #keys do
  local delta = args[at]
  if call('INCRBY', keys[i], delta) == tonumber(delta) then call('PEXPIREAT', keys[i], args[at + 1]) end -- it begins here
  at = at + 2
end
call('HSET', keys[2], field, args[3])
return {'mark', seq}
