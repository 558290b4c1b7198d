--[[ resolve: what became of admit n, whose answer never came? If it has not run by now, it never will.

KEYS[1] epoch   KEYS[2] marks
ARGV[1] tag "<epoch> <run id>"   ARGV[2] worker   ARGV[3] n
RETURNS {"unready", epoch value}   another epoch: nothing of n stands there
        {"dead"}                   it charged nothing, and a late arrival will do nothing
        {"ok", real, charges}      n, which ran, and what it charged: a text of tickets and numbers of calls, in turn
A successor asks with n beyond every n there can be; it is answered with the last one that charged, however often it asks.
WHY LUA the tombstone must stand before the late script can run ]]
local current = redis.call('GET', KEYS[1])
if current ~= ARGV[1] and current ~= ARGV[1] .. ' wait' then return {'unready', current or ''} end
local field, n = 'a:' .. ARGV[2], tonumber(ARGV[3])
local last = redis.call('HGET', KEYS[2], field)
local seen, real, charges = 0, '0', ''
if last then
  seen, real, charges = string.match(last, '^(%d+):(%d+):(.*)$')
  seen = tonumber(seen)
end
if seen < n then redis.call('HSET', KEYS[2], field, ARGV[3] .. ':' .. real .. ':' .. charges) end
if real ~= '0' and (n == tonumber(real) or n >= 4503599627370496) then return {'ok', real, charges} end
return {'dead'}
