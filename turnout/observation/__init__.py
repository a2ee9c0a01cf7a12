"""Seeing a stage's two shares: from the local gateway's counters, or from CloudWatch."""
