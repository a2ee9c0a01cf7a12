"""A project with a Python version: a scikit-learn estimator saved with skops."""
