"""A stage's canary: runs it, reports on it, compares its predictions."""
