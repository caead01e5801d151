-- Grant as many of the offered tokens as the pool has idle workers without a claim.
-- KEYS: idle (worker -> end of its entry), claims (token -> end of the claim); ms, Redis' clock.
-- ARGV: how long a claim lives in ms, then the tokens offered. Returns how many are granted.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local free = redis.call('ZCARD', KEYS[1]) - redis.call('ZCARD', KEYS[2])
local granted = math.max(0, math.min(free, #ARGV - 1))
for i = 1, granted do
    redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i + 1])
end
return granted
