"""Tools that break the parts around the service on purpose, also for the fault tests."""
