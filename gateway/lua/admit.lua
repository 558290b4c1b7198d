--[[ admit: decide the calls that wait for some buckets, in order of arrival; each is charged on every limit or on none.

KEYS: of each bucket its versions and its marks; then of each its epoch, and what the limits stand on, group by group
ARGV[1] "a:<worker>"   ARGV[2] n, the worker's number for all that is asked here   ARGV[3] tag "<epoch> <run id>" of these buckets
ARGV[4] how many buckets   then for each bucket "+" and how many groups of equal calls, unless it is one; then for each group:
    how many calls (below zero: all of them or none), and its charge, packed (struct, big-endian), as one argument costs less than ten:
      number of its keys, number of its arguments (these two among them), number of quotas, 1 if there is more behind them, from_ms,
      until_ms, ticket (the journal's name for what one of the calls is charged; 0: nobody need know), org, version (not compared where
      it is empty), and of each quota (one key): cost of one call, limit (infinite: only counts), expires_at_ms
      then, if there is more, a MessagePack array: the numbers t, r, s of throttles, rates and concurrency limits, and
        of each throttle (one key, its slower quota): index of its main quota, that one's limit, cost, limit ("" only counts),
          expires_at_ms; after the last of them 2^t - 1 tickets: by which throttles a call was beyond the main limit of, as bits
        of each rate (one key): cost of one call, most debt there may be, debt paid off in a microsecond, 1 if it refuses nobody
    where s > 0: this worker's number for what it says of its slots, then of each limit (one key): limit, 1 if it refuses nobody,
      this worker's slots before; the group's last key is then who is alive
RETURNS numbers in a row, bucket by bucket, group by group (a text where one is too large for Lua). Where nothing of a bucket was
  charged, one text: "!" and the value of its epoch key, as it is not ready; or "?", as n was given up meanwhile. Else of each group:
  granted (-1 late: its windows do not hold server time; -2 stale: its entitlement is not the current one), the limit that refused the
  rest (1-based, through quotas, throttles, rates, concurrency; 0 none), and unless granted is below zero, as they are now: use of each
  quota and slower quota, debt of each rate, slots of each concurrency limit; at last of each throttle how many of the granted came
  before its main limit, of each rate how many of the granted did not fit
WHY LUA two calls must never share the last unit ]]
local call, try, keys, args, unpacked = redis.call, redis.pcall, KEYS, ARGV, struct.unpack
local floor, format = math.floor, string.format
local field, n, tag, own = args[1], args[2], args[3], 2 * args[4]
local stored = call('MGET', unpack(keys, own + 1))
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local LIVES_MS, KEPT_MS, HUGE, EXACT = 5000, 30000, math.huge, 2 ^ 53
local forms, moved, said, words = {}, {}, {}, 0
local key, arg = own + 1, 5

for bucket = 1, own / 2 do
  local epoch, groups, charged, refused, beats = stored[key - own], 1, '', nil, nil
  if args[arg] == '+' then groups, arg = args[arg + 1] + 0, arg + 2 end
  if epoch ~= tag then
    refused = '!' .. (epoch or '')
  else
    local seen = call('HGET', keys[2 * bucket], field)
    if seen and n + 0 <= string.match(seen, '^%d+') + 0 then refused = '?' end
  end
  key = key + 1
  if refused then
    words = words + 1
    said[words] = refused
    for _ = 1, groups do
      local names, arguments = unpacked('>I2I2', args[arg + 1])
      key, arg = key + names, arg + arguments
    end
  else
    for group = 1, groups do
      local asked, charge = args[arg] + 0, args[arg + 1]
      local names, arguments, m, further, from, upto, ticket, org, version, at = unpacked('>I2I2I2BddBc0I2c0Bc0', charge)
      local form = forms[m]
      if not form then
        form = '>' .. string.rep('ddd', m)
        forms[m] = form
      end
      local quotas, whole, granted, refusing = {unpacked(form, charge, at)}, asked < 0, nil, 0
      if whole then asked = -asked end
      granted = asked
      local t, r, s, argv = 0, 0, 0, nil
      if further == 1 then
        argv = cmsgpack.unpack(string.sub(charge, quotas[3 * m + 1]))
        t, r, s = argv[1], argv[2], argv[3]
      end
      local throttles, slots = 4, arg + 2
      local tickets = throttles + 5 * t
      local rates = tickets + (t > 0 and 2 ^ t - 1 or 0)
      local t_key, r_key = key + m, key + m + t
      local s_key, worker = r_key + r, nil
      local within, debts, fits, back, held = t > 0 and {}, nil, nil, nil, nil

      -- every limit is asked before anything is written
      if version ~= '' and call('HGET', keys[2 * bucket - 1], org) ~= version then
        granted = -2
      elseif now < from or now >= upto then
        granted = -1
      else
        for i = 0, m - 1 do
          local limit = quotas[3 * i + 2]
          if limit < HUGE then
            local room, cost, fit = limit - (moved[keys[key + i]] or stored[key + i - own] or 0), quotas[3 * i + 1], asked
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

      said[words + 1], said[words + 2] = granted, granted == asked and 0 or refusing
      words = words + 2
      if granted >= 0 then
        for i = 0, m - 1 do
          local name, units = keys[key + i], quotas[3 * i + 1]
          local used = moved[name] or stored[key + i - own]
          if granted > 0 and units ~= 0 then
            units = granted * units
            if used then
              local sum = try('INCRBY', name, units)
              if type(sum) ~= 'table' then
                used = sum
              elseif not string.find(sum.err, 'overflow', 1, true) then
                return sum
              end -- else it stays at about the last number that there is
            else
              used = units
              call('SET', name, format('%.0f', units), 'PXAT', quotas[3 * i + 3])
            end
            moved[name] = used
          elseif used and used + 0 < EXACT then
            used = used + 0
          end
          said[words + 1 + i] = used or 0
        end
        words = words + m
        if granted > 0 and t == 0 and ticket ~= '0' then
          charged = charged .. ' ' .. ticket .. ' ' .. (granted == asked and not whole and args[arg] or format('%.0f', granted))
        end
      end
      if granted >= 0 and t + r + s > 0 then
        local extra = {}
        for i = 0, t - 1 do
          local a, name = throttles + 5 * i, keys[t_key + i]
          local used, beyond = moved[name] or stored[t_key + i - own], granted - within[i]
          if beyond > 0 and argv[a + 2] ~= 0 then
            local units = beyond * argv[a + 2]
            if used then
              local sum = try('INCRBY', name, units)
              if type(sum) ~= 'table' then
                used = sum
              elseif not string.find(sum.err, 'overflow', 1, true) then
                return sum
              end -- else it stays at about the last number that there is
            else
              used = units
              call('SET', name, format('%.0f', units), 'PXAT', argv[a + 4])
            end
            moved[name] = used
          elseif used and used + 0 < EXACT then
            used = used + 0
          end
          words = words + 1
          said[words] = used or 0
          extra[i + 1] = beyond > 0 and within[i] or granted
        end
        local done = 0
        while t > 0 and done < granted do
          local beyond_of, stop = 0, granted
          for i = 0, t - 1 do
            if within[i] <= done then beyond_of = beyond_of + 2 ^ i elseif within[i] < stop then stop = within[i] end
          end
          local of = beyond_of == 0 and ticket or argv[tickets + beyond_of - 1]
          if of ~= 0 and of ~= '0' then charged = charged .. ' ' .. of .. ' ' .. stop - done end
          done = stop
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
          words = words + 1
          said[words] = debt
          extra[t + i + 1] = granted - taken
        end
        for i = 0, s - 1 do
          local name, seats = keys[s_key + i], held[i]
          if granted > 0 then
            seats.mine = seats.mine + granted
            call('HSET', name, worker, seats.mine)
            call('PEXPIRE', name, KEPT_MS)
            call('HSET', keys[s_key + s], worker, now .. ' ' .. args[slots])
          end
          words = words + 1
          said[words] = seats.mine + seats.others
        end
        for i = 1, t + r do said[words + i] = extra[i] end
        words = words + t + r
      end
      key, arg = key + names, arg + arguments
    end
    if charged ~= '' then call('HSET', keys[2 * bucket], field, n .. ':' .. n .. ':' .. charged) end
  end
end

return said
