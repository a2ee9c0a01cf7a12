"""Checks of a plan: replacements, graphs, quotas, notes."""
