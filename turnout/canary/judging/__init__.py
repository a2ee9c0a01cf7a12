"""Judges a canary, purely: an observation in, checks, a verdict and the next state out."""
