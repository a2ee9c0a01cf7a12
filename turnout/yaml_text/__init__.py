"""Reads YAML with the place of every value, and edits it without touching the rest of the text."""
