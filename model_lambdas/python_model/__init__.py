"""Models that are Python: a file with `load(folder)` and `predict(inputs)`."""
