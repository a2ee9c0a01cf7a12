"""Chooses the version that responds; the tables and graphs that routers read."""
