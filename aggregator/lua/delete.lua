--[[ delete: forget a batch that Postgres has, and tell the gateways up to where their journals are safe there.

KEYS[1] batch under way   KEYS[2] committed marks
ARGV[1] epoch   ARGV[2] generation   then for each worker: name, the mark that stands in Postgres
RETURNS 1 deleted | 0 another batch, or none, is under way; nothing was changed
WHY LUA a slow caller must not delete the next batch ]]
if redis.call('HGET', KEYS[1], '@e') ~= ARGV[1] or redis.call('HGET', KEYS[1], '@g') ~= ARGV[2] then return 0 end
redis.call('UNLINK', KEYS[1])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return 1
