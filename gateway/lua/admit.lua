--[[ admit: decide the calls that wait for some buckets, in order of arrival; each is charged on every limit or on none.

KEYS: of each bucket its versions and its marks; then of each its epoch, and what the limits stand on, group by group
ARGV[1] "a:<worker>"   ARGV[2] how many buckets   then for each bucket:
  tag "<epoch> <run id>", n (this worker's number for the call), how many groups of equal calls; then for each group:
    how many calls (below zero: all of them or none), and its charge, a MessagePack array, since one argument costs less than twenty:
      number of its keys, number of its arguments (these two among them), ticket (the journal's name for what one of the calls is
      charged; 0: nobody need know), org, version ("" is not compared), from_ms, until_ms,
      number of quotas, then of each (one key): cost of one call, limit ("" only counts), expires_at_ms
      0, or 1 and then the numbers t, r, s of throttles, rates and concurrency limits, and
        of each throttle (one key, its slower quota): index of its main quota, that one's limit, cost, limit ("" only counts),
          expires_at_ms; after the last of them 2^t - 1 tickets: by which throttles a call was beyond the main limit of, as bits
        of each rate (one key): cost of one call, most debt there may be, debt paid off in a microsecond, 1 if it refuses nobody
    where s > 0: this worker's number for what it says of its slots, then of each limit (one key): limit, 1 if it refuses nobody,
      this worker's slots before; the group's last key is then who is alive
RETURNS a text, "|" between buckets. Where nothing of a bucket was charged: "!" and the value of its epoch key, as it is not ready; or
  "?", as n was given up meanwhile. Else, ";" between groups: granted (-1 late: its windows do not hold server time; -2 stale: its
  entitlement is not the current one; then no more), the limit that refused the rest (1-based, through quotas, throttles, rates,
  concurrency; 0 none), as they are now: use of each quota and slower quota, debt of each rate, slots of each concurrency limit; at last
  of each throttle how many of the granted came before its main limit, of each rate how many of the granted did not fit
WHY LUA two calls must never share the last unit ]]
local call, keys, args, unpacked, floor, format = redis.call, KEYS, ARGV, cmsgpack.unpack, math.floor, string.format
local field, own = args[1], 2 * args[2]
local stored = call('MGET', unpack(keys, own + 1))
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local LIVES_MS, KEPT_MS = 5000, 30000
local moved, said = {}, nil
local key, arg = own + 1, 3

for bucket = 1, own / 2 do
  local epoch, n, groups = stored[key - own], args[arg + 1], args[arg + 2] + 0
  local seen = epoch == args[arg] and call('HGET', keys[2 * bucket], field)
  local replies, charged, beats = nil, '', nil
  if epoch ~= args[arg] then
    replies = '!' .. (epoch or '')
  elseif seen and n + 0 <= string.match(seen, '^%d+') + 0 then
    replies = '?'
  end
  key, arg = key + 1, arg + 3
  if replies then
    for _ = 1, groups do
      local charge = unpacked(args[arg + 1])
      key, arg = key + charge[1], arg + charge[2]
    end
  else
    for group = 1, groups do
      local asked, argv, at = args[arg] + 0, unpacked(args[arg + 1]), 2
      local m, version, whole = argv[at + 6], argv[at + 3], asked < 0
      if whole then asked = -asked end
      local granted, refusing, text = asked, 0, nil
      local quotas, more = at + 7, at + 7 + 3 * m
      local t, r, s = 0, 0, 0
      if argv[more] == 1 then t, r, s = argv[more + 1], argv[more + 2], argv[more + 3] end
      local throttles = more + 4
      local tickets = throttles + 5 * t
      local rates = tickets + (t > 0 and 2 ^ t - 1 or 0)
      local slots = arg + 2
      local t_key, r_key = key + m, key + m + t
      local s_key, worker = r_key + r, nil
      local within, debts, fits, back, held = t > 0 and {}, nil, nil, nil, nil

      -- every limit is asked before anything is written
      if version ~= '' and call('HGET', keys[2 * bucket - 1], argv[at + 2]) ~= version then
        granted = -2
      elseif now < argv[at + 4] or now >= argv[at + 5] then
        granted = -1
      else
        for i = 0, m - 1 do
          local a = quotas + 3 * i
          local limit = argv[a + 1]
          if limit ~= '' then
            local room, cost, fit = limit - (moved[keys[key + i]] or stored[key + i - own] or 0), argv[a], asked
            if cost > 0 then fit = floor(room / cost) elseif room <= 0 then fit = 0 end
            if fit < granted then granted, refusing = fit, i + 1 end
          end
        end
        for i = 0, t - 1 do
          local a, k = throttles + 5 * i, t_key + i
          local main, cost, before = key + argv[a] - 1, argv[a + 2], asked
          local room = argv[a + 1] - (moved[keys[main]] or stored[main - own] or 0)
          if cost > 0 then before = floor(room / cost) elseif room <= 0 then before = 0 end
          if before < 0 then before = 0 end
          within[i] = before
          if argv[a + 3] ~= '' and before < asked then
            local left, beyond = argv[a + 3] - (moved[keys[k]] or stored[k - own] or 0), asked
            if cost > 0 then beyond = floor(left / cost) elseif left <= 0 then beyond = 0 end
            if beyond < 0 then beyond = 0 end
            if before + beyond < granted then granted, refusing = before + beyond, m + i + 1 end
          end
        end
        if r > 0 then
          debts, fits, back = {}, {}, {}
          local now_us = time[1] * 1000000 + time[2]
          for i = 0, r - 1 do
            local a, state, debt = rates + 4 * i, moved[keys[r_key + i]] or stored[r_key + i - own], 0
            if state then
              local since = string.sub(state, 1, 16) + 0
              debt = string.sub(state, 18) + 0
              if since > now_us then back[i] = true else debt = debt - (now_us - since) * argv[a + 2] end
              if debt < 0 then debt = 0 end
            end
            local fit = floor((argv[a + 1] - debt) / argv[a])
            if fit < 0 then fit = 0 end
            debts[i], fits[i] = debt, fit
            if argv[a + 3] ~= 1 and fit < granted then granted, refusing = fit, m + t + i + 1 end
          end
        end
        if s > 0 then
          worker, held = string.sub(field, 3), {}
          if not beats then
            beats = {}
            local flat = call('HGETALL', keys[s_key + s])
            for j = 1, #flat, 2 do beats[flat[j]] = string.match(flat[j + 1], '^%d+') + LIVES_MS >= now end
          end
          for i = 0, s - 1 do
            local a, name = slots + 1 + 3 * i, keys[s_key + i]
            local seats = moved[name]
            if not seats then
              seats = {mine = args[a + 2] + 0, others = 0}
              local flat = call('HGETALL', name)
              for j = 1, #flat, 2 do
                if flat[j] ~= worker and beats[flat[j]] then seats.others = seats.others + flat[j + 1] end
              end
              moved[name] = seats
            end
            held[i] = seats
            local fit = args[a] - seats.mine - seats.others
            if args[a + 1] ~= '1' and fit < granted then granted, refusing = fit, m + t + r + i + 1 end
          end
        end
        if granted < 0 or whole and granted < asked then granted = 0 end
      end

      if granted == asked then text = granted .. ' 0' else text = granted .. ' ' .. refusing end
      if granted >= 0 then
        for i = 0, m - 1 do
          local a, name = quotas + 3 * i, keys[key + i]
          local used, units = moved[name] or stored[key + i - own], argv[a]
          if granted > 0 and units ~= 0 then
            units = granted * units
            if used then
              used = call('INCRBY', name, units)
              if used > 99999999999999 then used = format('%.0f', used) end
            else
              used = format('%.0f', units)
              call('SET', name, used, 'PXAT', argv[a + 2])
            end
            moved[name] = used
          end
          text = text .. ' ' .. (used or '0')
        end
        if granted > 0 and t == 0 and argv[at + 1] ~= 0 then charged = charged .. ' ' .. argv[at + 1] .. ' ' .. granted end
      end
      if granted >= 0 and t + r + s > 0 then
        local extra = ''
        for i = 0, t - 1 do
          local a, name = throttles + 5 * i, keys[t_key + i]
          local used, beyond = moved[name] or stored[t_key + i - own], granted - within[i]
          if beyond > 0 and argv[a + 2] ~= 0 then
            local units = format('%.0f', beyond * argv[a + 2])
            if used then
              used = format('%.0f', call('INCRBY', name, units))
            else
              used = units
              call('SET', name, units, 'PXAT', argv[a + 4])
            end
            moved[name] = used
          end
          text = text .. ' ' .. (used or '0')
          extra = extra .. ' ' .. (beyond > 0 and within[i] or granted)
        end
        local done = 0
        while t > 0 and done < granted do
          local beyond_of, upto = 0, granted
          for i = 0, t - 1 do
            if within[i] <= done then beyond_of = beyond_of + 2 ^ i elseif within[i] < upto then upto = within[i] end
          end
          local ticket = beyond_of == 0 and argv[at + 1] or argv[tickets + beyond_of - 1]
          if ticket ~= 0 then charged = charged .. ' ' .. ticket .. ' ' .. upto - done end
          done = upto
        end
        for i = 0, r - 1 do
          local a, name = rates + 4 * i, keys[r_key + i]
          local taken = granted < fits[i] and granted or fits[i]
          local debt = debts[i] + taken * argv[a]
          if taken > 0 or back[i] then -- a clock that was set back must not hold the debt up until it has caught up
            local state = format('%016.0f %.0f', time[1] * 1000000 + time[2], debt)
            call('SET', name, state, 'PX', format('%.0f', floor(debt / argv[a + 2] / 1000) + 2))
            moved[name] = state
          end
          text = text .. ' ' .. format('%.0f', debt)
          extra = extra .. ' ' .. granted - taken
        end
        for i = 0, s - 1 do
          local name, seats = keys[s_key + i], held[i]
          if granted > 0 then
            seats.mine = seats.mine + granted
            call('HSET', name, worker, seats.mine)
            call('PEXPIRE', name, KEPT_MS)
            call('HSET', keys[s_key + s], worker, now .. ' ' .. args[slots])
          end
          text = text .. ' ' .. seats.mine + seats.others
        end
        text = text .. extra
      end
      replies = replies and replies .. ';' .. text or text
      key, arg = key + argv[1], arg + argv[2]
    end
    if charged ~= '' then call('HSET', keys[2 * bucket], field, n .. ':' .. n .. ':' .. charged) end
  end
  said = said and said .. '|' .. replies or replies
end

return said
