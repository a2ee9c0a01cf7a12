"""Asynchronous requests: their states, what a run's answer means, and how a request is shown to its caller.

Pure, except that `webhooks` sends.
"""
