--[[ drain: hand out the batch under way; if there is none, make one of everything settled so far.

KEYS[1] epoch   KEYS[2] marks   KEYS[3] live hash   KEYS[4] batch under way   KEYS[5] generation   KEYS[6] committed marks
RETURNS {"unready"}                  the bucket has no epoch
        {"empty"}                    nothing is under way and nothing was settled
        {"pending", field, value…}   a batch made earlier, unchanged; more may have been settled since
        {"fresh", field, value…}     a batch made now: it holds all that was settled before
A batch carries its own identity: "@e" its epoch, "@g" its generation, "@s:<worker>" the mark of each worker whose mark
moved since the last batch that Postgres committed; all other fields are ledger fields.
WHY LUA what was settled and the marks that stand for it must be cut at the same instant ]]
local epoch = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) ')
if not epoch then return {'unready'} end

local state = 'pending'
if redis.call('EXISTS', KEYS[4]) == 0 then
  if redis.call('EXISTS', KEYS[3]) == 0 then return {'empty'} end
  redis.call('RENAME', KEYS[3], KEYS[4])
  state = 'fresh'
end
if redis.call('HEXISTS', KEYS[4], '@g') == 0 then
  redis.call('HSET', KEYS[4], '@e', epoch, '@g', redis.call('INCR', KEYS[5]))
  redis.call('HDEL', KEYS[4], '!')
  local committed = {}
  local flat = redis.call('HGETALL', KEYS[6])
  for i = 1, #flat, 2 do committed[flat[i]] = flat[i + 1] end
  local marks = redis.call('HGETALL', KEYS[2])
  for i = 1, #marks, 2 do
    if string.sub(marks[i], 1, 2) == 's:' and committed[string.sub(marks[i], 3)] ~= marks[i + 1] then
      redis.call('HSET', KEYS[4], '@' .. marks[i], marks[i + 1])
    end
  end
end
local reply = redis.call('HGETALL', KEYS[4])
table.insert(reply, 1, state)
return reply
