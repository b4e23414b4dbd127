"""Many runs as a handful of programs: axes, planner, batched programs, results, executors."""
