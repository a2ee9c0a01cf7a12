"""Models written in Python: a file with `load(folder)` and `predict(inputs)`."""
