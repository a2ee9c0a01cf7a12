"""Model runtimes, one folder each: the code in a version's zip besides `turnout.protocol`."""
