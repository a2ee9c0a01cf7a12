"""Datatypes, interface checks, numbers in JSON, binary tensors."""
