"""API Gateway's control plane for the stages served here, and who may use it."""
