"""What all workers share, in memory that they all see: settings, throttle budgets, counters, running calls."""
