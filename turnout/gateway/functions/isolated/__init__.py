"""Functions that run as Lambda runs them: each in awslambdaric processes of its own, from its own zip."""
