"""Spans over OTLP/HTTP of requests, calls of functions and runs of models; imported only where they are asked for."""
