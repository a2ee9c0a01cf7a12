"""What a plan cannot do or should mention: replacements, graphs, quotas, notes."""
