"""Asynchronous requests: a durable queue under `.turnout/requests`, worked by the workers beside synchronous calls."""
