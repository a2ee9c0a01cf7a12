"""The `turnout canary` commands."""
