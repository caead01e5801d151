-- Take one token from a bucket that holds `quota` and fills in `window` ms. Redis' own clock.
-- KEYS: bucket. ARGV: quota, window in ms.
-- Returns tokens left, ms until the bucket is full, ms until the next token (0: one was taken).
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local quota, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local each = window / quota
-- The moment at which the bucket is full says all there is to know about it.
local full = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0) or 0)
local wait = 0
if full + each - now > window then
    wait = math.ceil(full + each - now - window)
else
    full = full + each
    redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now))
end
return { math.floor((window - (full - now)) / each + 0.000001), math.ceil(full - now), wait }
