"""Proxy events, payload limits, regions, request signing."""
