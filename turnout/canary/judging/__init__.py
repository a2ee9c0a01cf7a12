"""Judges a canary with pure functions: from an observation to checks, a verdict and the next state."""
