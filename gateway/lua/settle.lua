--[[ settle: take one batch of a worker into the live hash, and move the counters that admission did not.

KEYS[1] epoch   KEYS[2] marks   KEYS[3] live hash   KEYS[4..] counters
ARGV[1] tag "<epoch> <run id>"   ARGV[2] worker   ARGV[3] seq   ARGV[4] number of ledger fields
then the fields, then the quantity of each; then for each counter of KEYS[4..]: delta, expires_at_ms
then, where the live hash is bounded: how many fields are enough
RETURNS {"unready", epoch value}   nothing was taken
        {"full", mark}             nothing was taken: the hash has enough fields, and nobody drained it for PATIENT_S
        {"mark", seq}              the last batch taken from this worker; only seq = mark + 1 is ever taken
A bucket in recovery is never full: it opens when all of this is taken. "!" in the hash: when it began, in seconds
WHY LUA the mark and what it stands for must move together ]]
local call, try, keys, args = redis.call, redis.pcall, KEYS, ARGV
local current = call('GET', keys[1])
if current ~= args[1] and current ~= args[1] .. ' wait' then return {'unready', current or ''} end
local field, seq, rows = 's:' .. args[2], tonumber(args[3]), tonumber(args[4])
local mark = tonumber(call('HGET', keys[2], field) or 0)
local size, enough = call('HLEN', keys[3]), tonumber(args[5 + 2 * rows + 2 * (#keys - 3)] or 0)
local EXACT, PATIENT_S, TOP = 1e15, 150, '9223372036854775807' -- Lua's numbers are exact only up to the first
if enough > 0 and size >= enough and current == args[1] then
  if call('TIME')[1] - (call('HGET', keys[3], '!') or 0) >= PATIENT_S then return {'full', mark} end
end
if seq ~= mark + 1 then return {'mark', mark} end

local function no_number(reply) -- what no number holds must not hold up all that comes behind it; any other error ends the script
  if type(reply) ~= 'table' then return false end
  if string.find(reply.err, 'overflow', 1, true) or string.find(reply.err, 'not an integer', 1, true) then return true end
  error(reply)
end

local sums, n = {}, 0
if size == 0 then sums, n = {'!', call('TIME')[1]}, 2 end
for at = 5, 4 + rows, 1000 do -- a thousand at once: a command costs more than what it does for one field
  local upto = math.min(at + 999, 4 + rows)
  local before = call('HMGET', keys[3], unpack(args, at, upto))
  for i = at, upto do
    local was, sum = before[i - at + 1], args[i + rows]
    if was then
      local total = was + sum
      if total >= EXACT or total <= -EXACT or sum + 0 >= EXACT or sum + 0 <= -EXACT then
        if no_number(try('HINCRBY', keys[3], args[i], sum)) then call('HINCRBYFLOAT', keys[3], args[i], sum) end
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
  local total = try('INCRBY', keys[i], delta)
  if no_number(total) then
    if delta + 0 > 0 then call('SET', keys[i], TOP, 'PXAT', args[at + 1]) end
  elseif total == tonumber(delta) then
    call('PEXPIREAT', keys[i], args[at + 1]) -- it begins here
  end
  at = at + 2
end
call('HSET', keys[2], field, args[3])
return {'mark', seq}
