"""API Gateway's rules, compiled from the document and the stages' settings."""
