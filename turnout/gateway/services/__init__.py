"""API Gateway's control plane for the stages that are served here, and who may speak to it."""
