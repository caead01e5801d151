-- Take tokens from a bucket that holds `quota` and fills in `window` ms. Redis' own clock.
-- KEYS: bucket. ARGV: quota, window in ms, tokens to take (at most quota).
-- Returns tokens left, ms until the bucket is full, ms until so many can be taken (0: they were).
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local quota, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local each = window / quota
local taken = each * tonumber(ARGV[3])
-- The moment at which the bucket is full says all there is to know about it.
local full = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0) or 0)
local wait = 0
if full + taken - now > window + 0.001 then  -- rounding must not keep a whole bucket from anyone
    wait = math.ceil(full + taken - now - window)
else
    full = full + taken
    redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.max(1, math.ceil(full - now)))
end
return { math.max(0, math.floor((window - (full - now)) / each + 0.000001)), math.ceil(full - now), wait }
