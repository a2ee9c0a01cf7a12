"""Model runtimes, one folder each: what goes into a version's zip beside `turnout.protocol`."""
