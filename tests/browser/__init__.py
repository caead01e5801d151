WAIT_MS = 20_000  # for anything on a page: the machine may be busy
