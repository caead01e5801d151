"""Times of the job protocol, in seconds. Each is a bound that a test or the reaper relies on."""

LEASE_S = 30.0  # a worker's right to finish, by the database's clock
RENEW_S = 5.0  # renewals, only while work advances
# A worker loses its job early if it has not renewed for OVERDUE_S and is silent in Redis, and both
# last for SILENT_FOR_S. A live worker renews every RENEW_S and announces itself within 1.2 s.
OVERDUE_S = 5.3
SILENT_FOR_S = 1.4
BEGIN_WITHIN_S = 2.0  # a placement that has not begun by then is taken back
CLAIM_S = 3.0  # a claim outlives BEGIN_WITHIN_S, so a slow begin is never counted twice
IDLE_S = 3.0  # how long an idle worker's entry in Redis lasts unless it is renewed
MAX_QUEUE_S = 900.0  # default time a job may wait before it expires
MAX_QUEUE_LIMIT_S = 86_400.0

WORKER_FAILURES = 3  # within WORKER_FAILURE_WINDOW_S, and the worker takes itself out
WORKER_FAILURE_WINDOW_S = 60.0
WORKER_PAUSE_S = 30.0  # doubles with every further pause, up to 16 times
