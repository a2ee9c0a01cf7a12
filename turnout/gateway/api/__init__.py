"""Answers one request: match, admit, build the event, read the function's response."""
