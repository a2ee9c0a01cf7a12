"""The state that all workers share, in shared memory: settings, throttle budgets, counters, running calls."""
