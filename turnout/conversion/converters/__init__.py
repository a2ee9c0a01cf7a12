"""The scripts that convert and fetch, each in an environment of its own: nothing of Turnout is installed there."""
