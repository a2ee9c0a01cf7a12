"""Switches to the current state of the project's files without a failed request."""
