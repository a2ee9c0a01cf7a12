"""Code of versions: modules that a converter copies as predict.py."""
