"""Asynchronous requests on AWS: the API's paths about them, and the worker that has them run."""
