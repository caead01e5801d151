-- Announce an idle worker, or renew its entry. Returns 1 if it was not in the set before.
-- KEYS: idle. ARGV: worker, how long the entry lives in ms.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if known and tonumber(known) > now then return 0 end
return 1
