"""Asynchronous requests on AWS: the API's paths for them, and the worker that runs them."""
