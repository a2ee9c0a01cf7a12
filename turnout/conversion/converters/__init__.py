"""The scripts that convert and fetch models, each in its own environment, where Turnout is not installed."""
