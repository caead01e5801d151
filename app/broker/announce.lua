-- Announce a worker that is ready, and idle or busy; count what it has finished.
-- KEYS: the workers that operators have drained, what the pool has served, the key that is there
-- while jobs are left without a worker, then idle, ready and the key that is there while no idle
-- worker is left, of the pool and of the pool at each level that the worker speaks.
-- ARGV: worker, how long its entries live in ms, 1 if it is idle, jobs and ms since the last call.
-- Perhaps then the channel on which dispatchers are told that it became idle, and the message.
-- Returns 1 if the worker was not idle before, -1 if it is drained and entered nowhere.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[4] ~= '0' then
    redis.call('HINCRBY', KEYS[2], 'jobs', ARGV[4])
    redis.call('HINCRBY', KEYS[2], 'ms', ARGV[5])
end
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then
    for i = 4, #KEYS, 3 do
        redis.call('ZREM', KEYS[i], ARGV[1])
        redis.call('ZREM', KEYS[i + 1], ARGV[1])
    end
    return -1
end
local function live(entry) return entry and tonumber(entry) > now end
local known = live(redis.call('ZSCORE', KEYS[4], ARGV[1]))
-- A wake-up costs every dispatcher a look. Without it they find workers that nobody waited for.
local awaited = not live(redis.call('ZSCORE', KEYS[5], ARGV[1])) or redis.call('EXISTS', KEYS[3]) == 1
for i = 4, #KEYS, 3 do
    awaited = awaited or redis.call('EXISTS', KEYS[i + 2]) == 1
    if ARGV[3] == '0' then
        redis.call('ZREM', KEYS[i], ARGV[1])
    else
        redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
    end
    redis.call('ZADD', KEYS[i + 1], now + ARGV[2], ARGV[1])
end
if ARGV[3] == '0' or known then return 0 end
if ARGV[6] and awaited then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
return 1
