"""Versions tried in a process of their own before they are served: whether they open, and which requests are fatal."""
