"""Functions that run as on Lambda: each in its own awslambdaric processes, from its own zip."""
