"""Pure computation that needs numpy or scipy: auditor, simulator and capacity planner."""
