-- A claimed attempt has begun: remove its worker and its claim, and tell those who wait for the job.
-- KEYS: idle and claims of the pool, then of the pool at each further level that the worker speaks.
-- ARGV: worker, token. Perhaps then the job's channel, and the message for it.
for i = 1, #KEYS, 2 do
    redis.call('ZREM', KEYS[i], ARGV[1])
    redis.call('ZREM', KEYS[i + 1], ARGV[2])
end
if ARGV[3] then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
