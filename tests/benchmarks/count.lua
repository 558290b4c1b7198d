--[[ count: one request of one organization against one quota, and into the usage of the minute.
KEYS[1]  the quota's counter    KEYS[2]  the usage hash
ARGV[1]  units    ARGV[2]  limit    ARGV[3]  the usage hash's field    ARGV[4]  the counter's life, ms
RETURNS  {1, used} admitted | {0, used} refused
WHY LUA  check and add must be one step ]]
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local units = tonumber(ARGV[1])
if used + units > tonumber(ARGV[2]) then return {0, used} end
redis.call('INCRBY', KEYS[1], units)
if used == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
redis.call('HINCRBY', KEYS[2], ARGV[3], units)
return {1, used + units}
