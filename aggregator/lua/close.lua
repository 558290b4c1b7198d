--[[ close: make a bucket unready, and claim it for one recovery.

KEYS[1] epoch   KEYS[2] versions   KEYS[3] generation
ARGV[1] the epoch that this recovery raised in Postgres
RETURNS 1 claimed: no script charges or settles here until restore | 0 a later recovery holds or has restored it
The claim stands where the generation will: a store that is emptied or replaced meanwhile loses it, and restore notices.
WHY LUA two recoveries at once must not undo each other ]]
local mine = tonumber(ARGV[1])
local standing = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) ') or -1)
local claimed = tonumber(string.match(redis.call('GET', KEYS[3]) or '', '^claim (%d+)$') or -1)
if standing >= mine or claimed >= mine then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], 'claim ' .. ARGV[1])
return 1
