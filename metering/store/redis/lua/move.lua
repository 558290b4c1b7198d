--[[ move: move counters for rows that were born in Postgres, each transaction's once and in order.

KEYS[1] epoch   KEYS[2] marks   KEYS[3..] counters
ARGV[1] seq; then for each counter of KEYS[3..]: "+" (add) or "=" (set), units, expires_at_ms
RETURNS {"unready"}      the bucket is being restored, or was lost: recovery sets every counter, this among it
        {"mark", seq}    the last transaction whose move was taken; only seq = mark + 1 is ever taken
The mark is `p`, which recovery sets with the counters. What stands in a store that is about to be restored does not matter.
WHY LUA the mark and what it stands for must move together ]]
local TOP = '9223372036854775807'
if not redis.call('GET', KEYS[1]) then return {'unready'} end
local mark, seq = tonumber(redis.call('HGET', KEYS[2], 'p') or 0), tonumber(ARGV[1])
if seq ~= mark + 1 then return {'mark', mark} end
for i = 3, #KEYS do
  local at = 2 + (i - 3) * 3
  local how, units, expires = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if how == '=' then
    redis.call('SET', KEYS[i], units, 'PXAT', expires)
  else
    local total = redis.pcall('INCRBY', KEYS[i], units)
    if type(total) == 'table' then -- beyond what a number holds: it stays full
      if tonumber(units) > 0 then redis.call('SET', KEYS[i], TOP, 'PXAT', expires) end
    elseif total == tonumber(units) then
      redis.call('PEXPIREAT', KEYS[i], expires) -- it begins here
    end
  end
end
redis.call('HSET', KEYS[2], 'p', ARGV[1])
return {'mark', seq}
