"""Places jobs on idle workers, takes lost ones back, schedules webhooks. Any number may run."""
