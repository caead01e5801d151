-- Grant as many of the offered tokens as the pool has idle workers without a claim.
-- KEYS: idle (worker -> end of its entry), claims (token -> end of the claim), ready (worker -> end
-- of its entry); ms, Redis' clock. Of a capped region, then the same of its other pools. Then the
-- key that is there while jobs are left without a worker, and the one that is there while
-- dispatchers may remember that no idle worker was left. Last, if the worker must speak a level,
-- the first three again, of the pool's workers that do.
-- ARGV: how long a claim lives in ms, how long each of those two keys does, the region's cap (-1:
-- none), 1 if the worker must speak a level, then the tokens offered.
-- Returns how many are granted, how many more could be, and whether the cap is why not more.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local level = ARGV[5] == '1'
local short = level and #KEYS - 4 or #KEYS - 1
local emptied = short + 1
local pools = short - 1
for i = 1, #KEYS do
    if i ~= short and i ~= emptied then redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now) end
end
local free = redis.call('ZCARD', KEYS[1]) - redis.call('ZCARD', KEYS[2])
local capped = 0
local cap = tonumber(ARGV[4])
if cap >= 0 then
    local room = cap
    for i = 1, pools, 3 do
        local idle = redis.call('ZCARD', KEYS[i]) - redis.call('ZCARD', KEYS[i + 1])
        room = room - math.max(0, redis.call('ZCARD', KEYS[i + 2]) - math.max(0, idle))
    end
    if room < free then
        free = room
        capped = 1
    end
end
if level then
    local speak = redis.call('ZCARD', KEYS[emptied + 1]) - redis.call('ZCARD', KEYS[emptied + 2])
    if speak < free then
        free = speak
        capped = 0
    end
end
free = math.max(0, free)
local offered = #ARGV - 5
local granted = math.min(free, offered)
for i = 1, granted do
    redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i + 5])
    -- The claim counts at both: no other claim may count on this worker.
    if level then redis.call('ZADD', KEYS[emptied + 2], now + ARGV[1], ARGV[i + 5]) end
end
-- A cap leaves jobs waiting on purpose: no worker is to hurry for them.
if granted < offered and capped == 0 then
    redis.call('SET', KEYS[short], 1, 'PX', ARGV[2])
else
    redis.call('DEL', KEYS[short])
end
-- Whoever claimed will not ask again for a while, unless it hears of an idle worker.
if granted == free and redis.call('PTTL', KEYS[emptied]) < tonumber(ARGV[3]) then
    redis.call('SET', KEYS[emptied], 1, 'PX', ARGV[3])
end
return {granted, free - granted, capped}
