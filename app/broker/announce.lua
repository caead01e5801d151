-- Announce a worker that is ready, and idle or busy; count what it has finished.
-- KEYS: the workers that operators have drained, what the pool has served, then idle and ready of
-- the pool, and of the pool at each level that the worker speaks.
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
    for i = 3, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
    return -1
end
local known = redis.call('ZSCORE', KEYS[3], ARGV[1])
for i = 3, #KEYS, 2 do
    if ARGV[3] == '0' then
        redis.call('ZREM', KEYS[i], ARGV[1])
    else
        redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
    end
    redis.call('ZADD', KEYS[i + 1], now + ARGV[2], ARGV[1])
end
if ARGV[3] == '0' or (known and tonumber(known) > now) then return 0 end
if ARGV[6] then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
return 1
