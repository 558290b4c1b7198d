--[[ admit: decide the calls that wait for one bucket, in order of arrival; each is charged on every counter or on none.

KEYS[1] epoch   KEYS[2] versions   KEYS[3] marks   KEYS[4..] counters, each named once
ARGV[1] tag "<epoch> <run id>"   ARGV[2] worker   ARGV[3] n, this worker's number for the call
then for each group of equal calls:
  ticket (the caller's name for the group), org, version, count, from_ms, until_ms, number of limits, then for each limit
  index in KEYS, cost of one call, limit ("" if the counter only counts), expires_at_ms
RETURNS {"unready", epoch value}            nothing was charged
        {"dead"}                            n was given up meanwhile; nothing was charged now
        {"ok", for each group: ticket, status, granted, refusing limit (1-based, 0 none), number of limits, used after…}
          status 0 decided, 1 late (its windows do not hold server time), 2 stale (its entitlement is not the current one)
WHY LUA two calls must never share the last unit ]]
local tag, worker, n = ARGV[1], ARGV[2], tonumber(ARGV[3])
local current = redis.call('GET', KEYS[1])
if current ~= tag then return {'unready', current or ''} end

local field = 'a:' .. worker
local last = redis.call('HGET', KEYS[3], field)
if last then
  local seen, real, packed = string.match(last, '^(%d+):(%d+):(.*)$')
  if n <= tonumber(seen) then
    if n == tonumber(real) then return cmsgpack.unpack(packed) end
    return {'dead'}
  end
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local value, expires = {}, {}
if #KEYS > 3 then
  local stored = redis.call('MGET', unpack(KEYS, 4))
  for i = 1, #stored do value[i + 3] = tonumber(stored[i] or 0) end
end

local reply, version_of = {'ok'}, {}
local at = 4
while at <= #ARGV do
  local org, version, count = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local limits, first = tonumber(ARGV[at + 6]), at + 7
  local known = version_of[org]
  if known == nil then
    known = redis.call('HGET', KEYS[2], org)
    version_of[org] = known
  end
  local status, granted, refusing = 0, 0, 0
  if known ~= version then
    status = 2
  elseif now < tonumber(ARGV[at + 4]) or now >= tonumber(ARGV[at + 5]) then
    status = 1
  else
    granted = count
    for i = 0, limits - 1 do
      local a = first + i * 4
      local limit = ARGV[a + 2]
      if limit ~= '' then
        local cost, room = tonumber(ARGV[a + 1]), tonumber(limit) - value[tonumber(ARGV[a])]
        local fit = count
        if cost > 0 then fit = math.floor(room / cost) elseif room <= 0 then fit = 0 end
        if fit < 0 then fit = 0 end
        if fit < granted then granted, refusing = fit, i + 1 end
      end
    end
  end
  reply[#reply + 1] = ARGV[at]
  reply[#reply + 1] = status
  reply[#reply + 1] = granted
  reply[#reply + 1] = refusing
  reply[#reply + 1] = limits
  for i = 0, limits - 1 do
    local a = first + i * 4
    local key = tonumber(ARGV[a])
    if granted > 0 and ARGV[a + 1] ~= '0' then
      value[key] = value[key] + granted * tonumber(ARGV[a + 1])
      expires[key] = ARGV[a + 3]
    end
    reply[#reply + 1] = value[key]
  end
  at = first + limits * 4
end

for key, expires_at in pairs(expires) do
  redis.call('SET', KEYS[key], string.format('%.0f', value[key]), 'PXAT', expires_at)
end
redis.call('HSET', KEYS[3], field, ARGV[3] .. ':' .. ARGV[3] .. ':' .. cmsgpack.pack(reply))
return reply
