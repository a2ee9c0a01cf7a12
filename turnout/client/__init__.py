"""Calls a running API: connection, responses, lines of a capture. It may use the protocol only."""
