"""Asynchronous requests: their states, the meaning of a run's answer, and their description for callers.

Pure, except for `webhooks`, which sends.
"""
