"""Reads a user's folder (manifest, artifacts, examples), and locks it while it is edited."""
