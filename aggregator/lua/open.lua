--[[ open: let a restored bucket admit, once the gateways have replayed what Postgres had not.

KEYS[1] epoch   KEYS[2] marks
ARGV[1] tag "<epoch> <run id>"   then each gateway process that must have replayed this epoch (none: open at once)
RETURNS 1 open | 0 somebody has not replayed | -1 the bucket does not wait under this tag
WHY LUA who has replayed and the door are looked at together ]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ' wait' then return -1 end
local epoch = string.match(ARGV[1], '^(%d+) ')
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[2], 'r:' .. ARGV[i]) ~= epoch then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
