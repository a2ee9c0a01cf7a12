"""Runs what an integration names, in this process or in separate processes."""
