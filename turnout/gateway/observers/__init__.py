"""Run after every request: access log, counting, sampling, capture."""
