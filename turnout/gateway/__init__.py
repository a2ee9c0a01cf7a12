"""The API on this machine: implements the OpenAPI document exactly as API Gateway does."""
