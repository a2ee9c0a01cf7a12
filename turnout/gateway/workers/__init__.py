"""All cores: a supervisor that holds the port, and the workers that answer."""
