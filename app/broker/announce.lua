-- Announce a worker that is ready, and idle or busy; count what it has finished.
-- KEYS: the workers that operators have drained, what the pool has served, the key that is there
-- while dispatchers may remember that no idle worker was left, the two of wake.lua, then idle and
-- ready of the pool, and of the pool at each level that the worker speaks.
-- ARGV: worker, how long its entries live in ms, 1 if it is idle, jobs and ms since the last call.
-- Perhaps then the wake-up that says that it became idle, as wake.lua takes it.
-- Returns 1 if the worker was not idle before, -1 if it is drained and entered nowhere.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local first = 6 -- of the pool's keys
if ARGV[4] ~= '0' then
    redis.call('HINCRBY', KEYS[2], 'jobs', ARGV[4])
    redis.call('HINCRBY', KEYS[2], 'ms', ARGV[5])
end
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then
    for i = first, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
    return -1
end
local function live(entry) return entry and tonumber(entry) > now end
local known = live(redis.call('ZSCORE', KEYS[first], ARGV[1]))
local ready = live(redis.call('ZSCORE', KEYS[first + 1], ARGV[1]))
for i = first, #KEYS, 2 do
    if ARGV[3] == '0' then
        redis.call('ZREM', KEYS[i], ARGV[1])
    else
        redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
    end
    redis.call('ZADD', KEYS[i + 1], now + ARGV[2], ARGV[1])
end
if ARGV[3] == '0' or known then return 0 end
if ARGV[6] then -- as in wake.lua; nobody asks for a worker that is new
    local all = not ready or redis.call('EXISTS', KEYS[3]) == 1
    if all or redis.call('EXISTS', KEYS[4]) == 0 then
        redis.call('PUBLISH', ARGV[7], ARGV[8])
    elseif not redis.call('LPOS', KEYS[5], ARGV[6]) then
        redis.call('RPUSH', KEYS[5], ARGV[6])
    end
end
return 1
