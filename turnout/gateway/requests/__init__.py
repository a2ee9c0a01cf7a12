"""Asynchronous requests: a durable queue in `.turnout/requests`, processed by the workers next to synchronous calls."""
