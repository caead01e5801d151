-- Tell one of the dispatchers to look: the one whose turn it is, or else all that listen.
-- A wake-up that none has taken yet says the same once, however often it is sent.
-- KEYS: the key that is there while dispatchers take turns, the list of the wake-ups they take.
-- Perhaps then the key that is there while they may remember that a pool had no idle worker left:
-- all must hear of one, or they would not ask the pool for a while.
-- ARGV: the wake-up, the channel that all of them hear, the wake-up as it travels there.
local all = KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1
if all or redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('PUBLISH', ARGV[2], ARGV[3])
elseif not redis.call('LPOS', KEYS[2], ARGV[1]) then
    redis.call('RPUSH', KEYS[2], ARGV[1])
end
