"""Chooses the version that answers; the tables and graphs that routers read."""
