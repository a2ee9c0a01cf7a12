"""Datatypes, interface checks, numbers in JSON, binary tensors, requests that would crash a process."""
