--[[ slots: this worker lives, and so many calls are in flight here. Says absolute numbers: said twice, or lost and said again,
they are the same.

KEYS[1] epoch   KEYS[2] who is alive   KEYS[3..] slots of concurrency limits
ARGV[1] tag "<epoch> <run id>"   ARGV[2] worker   ARGV[3] this worker's number for what it says; only a higher one than the last
ARGV[4..] calls in flight here, of each limit
RETURNS 1   | 0 taken too, but this worker had counted as dead meanwhile: what else it holds must be said again
        -1  another epoch, or said before: nothing was taken
WHY LUA the numbers and the life they are worth nothing without are said together ]]
local current = redis.call('GET', KEYS[1])
if current ~= ARGV[1] and current ~= ARGV[1] .. ' wait' then return -1 end
local LIVES_MS, KEPT_MS, FORGOTTEN_MS = 5000, 30000, 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lived = 0
local flat = redis.call('HGETALL', KEYS[2])
for i = 1, #flat, 2 do
  local beat, number = string.match(flat[i + 1], '^(%d+) (%d+)$')
  if flat[i] == ARGV[2] then
    if tonumber(number) >= tonumber(ARGV[3]) then return -1 end
    if beat + LIVES_MS >= now then lived = 1 end
  elseif beat + FORGOTTEN_MS < now then
    redis.call('HDEL', KEYS[2], flat[i])
  end
end
redis.call('HSET', KEYS[2], ARGV[2], now .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[2], FORGOTTEN_MS)
for i = 3, #KEYS do
  local count = ARGV[i + 1]
  if count == '0' then
    redis.call('HDEL', KEYS[i], ARGV[2])
  else
    redis.call('HSET', KEYS[i], ARGV[2], count)
    redis.call('PEXPIRE', KEYS[i], KEPT_MS)
  end
end
return lived
