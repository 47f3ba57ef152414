-- Everything that is done to limits in Redis, each step at once and in one round trip. The rules are those of `limits.py`.
--
-- A subject has three keys: a hash (`r`, `t`, `b`: when its buckets will be full; `s <period>`, `h <period>`: nanos spent
-- and held; `n <id>`, `p <id>`: those of one reservation, and their period), a sorted set of reservations by the end of
-- their lease, and one of those that lapsed: their process died, or was away for longer than a lease.
--
-- Nanos are added as text, never as Lua's numbers: those are doubles, exact up to 9 million yuan.
--
-- ARGV: what to do, the time ("" for the server's own), and what `redis.py` says of each.

local MINUTE_S = 60
local ROUNDING_S = 1e-6
local EPOCH_S = 1767225600 -- 2026: a double then holds nanoseconds for years
local DAY_S = 86400
local BUDGET_S = 35 * DAY_S -- longer than a month; a longer idle budget is asked of the ledger again
local LAPSED_AT_ONCE = 100

local now
if ARGV[2] == '' then
  local time = redis.call('TIME')
  now = time[1] - EPOCH_S + time[2] / 1e6
else
  now = tonumber(ARGV[2])
end

local function text(number)
  return string.format('%.17g', number)
end

local function wait_s(limit, full_at, amount, window_s)
  if amount == 0 then return 0 end
  if limit == 0 then return math.huge end
  local missing_s = full_at - now
  if missing_s <= 0 then return 0 end
  local short_s = math.min(missing_s, missing_s + amount * MINUTE_S / limit - window_s)
  return short_s > ROUNDING_S and short_s or 0
end

local function add(hash, field, nanos)
  if nanos ~= '0' then redis.call('HINCRBY', hash, field, nanos) end
end

-- Take a reservation's money back, as far as there is any.
local function unhold(hash, id)
  local held = redis.call('HMGET', hash, 'n ' .. id, 'p ' .. id)
  if held[1] then
    redis.call('HINCRBY', hash, 'h ' .. held[2], '-' .. held[1])
    redis.call('HDEL', hash, 'n ' .. id, 'p ' .. id)
  end
end

local function collect(hash, leases, lapsed)
  local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', text(now), 'LIMIT', 0, LAPSED_AT_ONCE)
  for _, id in ipairs(ids) do
    redis.call('ZREM', leases, id)
    unhold(hash, id)
    redis.call('ZADD', lapsed, text(now), id)
  end
  if #ids > 0 then
    redis.call('ZREMRANGEBYSCORE', lapsed, '-inf', text(now - DAY_S))
    redis.call('EXPIRE', lapsed, DAY_S)
  end
end

local function fits(one, calls, tokens, nanos, window_s, burst)
  if one.rpm then
    if wait_s(one.rpm, one.r, calls, window_s) > 0 then return false end
    if burst and wait_s(one.rpm * burst, one.b, calls, 1) > 0 then return false end
  end
  if one.tpm and wait_s(one.tpm, one.t, tokens > 0 and tokens or calls, window_s) > 0 then return false end
  if one.places and calls > 0 and one.running + calls > one.places then return false end
  return not one.budget or nanos == 0 or one.spent + one.held + nanos <= one.budget
end

local function hold(one, id, lease_s, calls, tokens, nanos, burst)
  local fields = {}
  if one.rpm and one.rpm > 0 and calls > 0 then
    one.r = math.max(one.r, now) + calls * MINUTE_S / one.rpm
    fields = { 'r', text(one.r) }
    if burst then
      one.b = math.max(one.b, now) + calls * MINUTE_S / (one.rpm * burst)
      fields[3], fields[4] = 'b', text(one.b)
    end
  end
  if one.tpm and one.tpm > 0 and tokens > 0 then
    one.t = math.max(one.t, now) + tokens * MINUTE_S / one.tpm
    fields[#fields + 1], fields[#fields + 2] = 't', text(one.t)
  end
  if one.leased then
    local new = redis.call('ZADD', one.leases, text(now + lease_s), id)
    one.running = one.places and one.running + new or 0
    redis.call('EXPIRE', one.leases, math.ceil(2 * lease_s))
  end
  if one.budget and nanos > 0 then
    add(one.hash, 'h ' .. one.period, ARGV[7])
    add(one.hash, 'n ' .. id, ARGV[7])
    fields[#fields + 1], fields[#fields + 2] = 'p ' .. id, one.period
    one.held = one.held + nanos
  end
  if #fields > 0 then
    redis.call('HSET', one.hash, unpack(fields))
    local idle_s = math.ceil(math.max(one.r, one.t, one.b, now) - now) + MINUTE_S
    redis.call('EXPIRE', one.hash, one.budget and BUDGET_S or idle_s)
  end
end

-- id, lease, calls, tokens, nanos, window, burst; for each subject rpm, tpm, places, budget, period. Replies in one text,
-- because clients read a text at once and a list element by element: the verdict and the time, then a line a subject.
local function take()
  local id, lease_s = ARGV[3], tonumber(ARGV[4])
  local calls, tokens, nanos = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  local window_s, burst = tonumber(ARGV[8]), tonumber(ARGV[9])
  local subjects, unknown, fit = {}, {}, true
  for index = 1, #KEYS / 3 do
    local key, arg = 3 * index - 2, 5 * index + 5
    local one = {
      hash = KEYS[key], leases = KEYS[key + 1], running = 0,
      rpm = tonumber(ARGV[arg]), tpm = tonumber(ARGV[arg + 1]), places = tonumber(ARGV[arg + 2]),
      budget = tonumber(ARGV[arg + 3]), period = ARGV[arg + 4],
    }
    one.leased = one.places or one.budget
    if one.leased then
      collect(one.hash, one.leases, KEYS[key + 2])
      one.running = one.places and redis.call('ZCARD', one.leases) or 0
    end
    local found = redis.call('HMGET', one.hash, 'r', 't', 'b', 's ' .. one.period, 'h ' .. one.period)
    for place, name in ipairs({ 'r', 't', 'b' }) do
      one[name] = found[place] and tonumber(found[place]) or -math.huge
    end
    one.spent_text = found[4] or '0'
    one.spent, one.held = tonumber(one.spent_text), tonumber(found[5] or '0')
    if one.budget and nanos > 0 and not found[4] then unknown[#unknown + 1] = index - 1 end
    fit = fit and fits(one, calls, tokens, nanos, window_s, burst)
    subjects[index] = one
  end
  if #unknown > 0 then return 'unknown ' .. table.concat(unknown, ' ') end
  local reply = { string.format('%s %.17g', fit and 'admitted' or 'refused', now) }
  for index, one in ipairs(subjects) do
    if fit then hold(one, id, lease_s, calls, tokens, nanos, burst) end
    reply[index + 1] = string.format(
      '%.17g %.17g %.17g %d %s %.0f', one.r, one.t, one.b, one.running, one.spent_text, one.held
    )
  end
  return table.concat(reply, '\n')
end

-- id, whether this is not the first try, tokens held and used, nanos used; for each subject tpm, leased, period.
local function settle()
  local id, again = ARGV[3], ARGV[4] == '1'
  local held, used, nanos = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
  local counts, unknown = not again, false
  for index = 1, #KEYS / 3 do
    local key, arg = 3 * index - 2, 3 * index + 5
    local hash, leases, lapsed, period = KEYS[key], KEYS[key + 1], KEYS[key + 2], ARGV[arg + 2]
    if ARGV[arg + 1] == '1' then
      -- The first try settles whatever it finds. A later one must know that no other did: then the reservation is there,
      -- or it has lapsed. Where Redis has lost its data, the ledger will be asked.
      local open = redis.call('ZREM', leases, id) + redis.call('ZREM', lapsed, id) > 0
      unhold(hash, id)
      counts = counts or open
      if period ~= '' and nanos ~= '0' and (open or not again) then
        if redis.call('HEXISTS', hash, 's ' .. period) == 1 then
          add(hash, 's ' .. period, nanos)
        else
          unknown = true
        end
      end
    end
  end
  local reply = unknown and 'unknown' or 'settled'
  if not counts or held == used then return reply end
  for index = 1, #KEYS / 3 do
    local hash, tpm = KEYS[3 * index - 2], tonumber(ARGV[3 * index + 5])
    if tpm and tpm > 0 then
      local full_at = tonumber(redis.call('HGET', hash, 't') or now)
      if used > held then full_at = math.max(full_at, now) end
      full_at = full_at + (used - held) * MINUTE_S / tpm
      redis.call('HSET', hash, 't', text(full_at))
      if redis.call('TTL', hash) < full_at - now + MINUTE_S then
        redis.call('EXPIRE', hash, math.ceil(math.max(full_at - now, 0)) + MINUTE_S)
      end
    end
  end
  return reply
end

-- period, nanos: what has been spent so far, at least. Compared as text, as amounts are added.
local function begin()
  local field, nanos = 's ' .. ARGV[3], ARGV[4]
  local known = redis.call('HGET', KEYS[1], field)
  if not known or #known < #nanos or (#known == #nanos and known < nanos) then
    redis.call('HSET', KEYS[1], field, nanos)
  end
  redis.call('EXPIRE', KEYS[1], BUDGET_S)
  return 'begun'
end

-- period, nanos; the second key remembers that it was done.
local function charge()
  if redis.call('HEXISTS', KEYS[1], 's ' .. ARGV[3]) == 0 then return 'unknown' end
  if redis.call('SET', KEYS[2], '1', 'NX', 'EX', DAY_S) then
    add(KEYS[1], 's ' .. ARGV[3], ARGV[4])
  end
  return 'charged'
end

-- lease, then an id for each key of leases.
local function renew()
  local lease_s = tonumber(ARGV[3])
  for index, leases in ipairs(KEYS) do
    redis.call('ZADD', leases, 'XX', text(now + lease_s), ARGV[index + 3])
    redis.call('EXPIRE', leases, math.ceil(2 * lease_s))
  end
  return 'renewed'
end

return ({ take = take, settle = settle, begin = begin, charge = charge, renew = renew })[ARGV[1]]()
