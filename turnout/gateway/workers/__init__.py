"""All cores: a supervisor that owns the port, and the workers that answer."""
