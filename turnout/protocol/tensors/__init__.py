"""Datatypes, interface checks, numbers in JSON, binary tensors, requests that would end a process."""
