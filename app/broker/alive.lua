-- Show that a worker process runs, ready or not. Forget those that ended an hour ago.
-- KEYS: alive. ARGV: worker, how long its entry lives in ms, how long an ended entry stays in ms.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
