"""Runs a graph of models, step by step."""
