"""Tries versions in a separate process before they are served: whether they open, and which requests are fatal."""
