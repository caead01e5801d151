-- Whether jobs wait for a worker of the pool while none is idle, changing nothing.
-- KEYS: idle, claims, the key that is there while jobs are left without a worker.
local t = redis.call('TIME')
local now = '(' .. (t[1] * 1000 + math.floor(t[2] / 1000))
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
local idle = redis.call('ZCOUNT', KEYS[1], now, '+inf')
if idle > redis.call('ZCOUNT', KEYS[2], now, '+inf') then return 0 end
return 1
