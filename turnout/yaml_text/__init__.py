"""Reads YAML with the position of every value, and edits it without changing the rest of the text."""
