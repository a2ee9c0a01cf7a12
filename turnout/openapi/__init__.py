"""The OpenAPI document of a plan; both servers read it."""
