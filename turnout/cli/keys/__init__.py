"""`turnout keys`: the keys of stages and of their consumers."""
