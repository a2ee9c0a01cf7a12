"""The API on this machine: obeys the OpenAPI document exactly as API Gateway does."""
