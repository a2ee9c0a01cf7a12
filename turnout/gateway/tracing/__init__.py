"""Spans over OTLP/HTTP for requests, calls of functions and runs of models; imported only if configured."""
