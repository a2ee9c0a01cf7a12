"""A stage's canary: run it, report on it, compare its predictions."""
