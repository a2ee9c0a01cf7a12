"""Seeing a stage's two shares and what they were asked: from the local gateway, or from CloudWatch and its logs."""
