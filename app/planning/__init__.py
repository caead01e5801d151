"""Pure computation that needs scipy: the auditor, the simulator, the capacity planner."""
