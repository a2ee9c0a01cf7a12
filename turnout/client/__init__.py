"""Calls a running API: connection, sample requests, reading responses and captures."""
