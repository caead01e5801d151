"""Computing without I/O that needs scipy: the auditor, the simulator, the capacity planner."""
