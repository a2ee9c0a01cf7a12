"""Observes a stage's two shares and their requests: from the local gateway, or from CloudWatch and its logs."""
