"""What breaks the parts around the service on purpose; the fault tests use it, too."""
