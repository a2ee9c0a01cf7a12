"""A stack's configuration, and what all of its resources have in common."""
