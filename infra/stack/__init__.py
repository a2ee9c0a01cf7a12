"""What a stack configures, and what all of its resources have in common."""
