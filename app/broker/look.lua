-- Count a pool's live entries, changing nothing. KEYS: idle, claims, ready. Returns the counts.
local t = redis.call('TIME')
local now = '(' .. (t[1] * 1000 + math.floor(t[2] / 1000))
local counts = {}
for i = 1, #KEYS do counts[i] = redis.call('ZCOUNT', KEYS[i], now, '+inf') end
return counts
