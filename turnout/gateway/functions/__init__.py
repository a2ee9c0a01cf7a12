"""Runs what an integration names, in this process or in processes of its own."""
