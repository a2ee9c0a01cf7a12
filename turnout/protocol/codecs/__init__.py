"""Reads and writes the request and response forms."""
