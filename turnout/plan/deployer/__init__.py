"""The IAM policy that a deployment needs. It may use what the plan may use."""
