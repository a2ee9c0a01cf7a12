"""Converts models of other libraries to ONNX versions.

They are fetched, converted in isolation, and proved to answer the same.
"""
