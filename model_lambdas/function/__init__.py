"""The code that all runtimes share: entry, handler, transform, capture, metrics, stored models, and their interface."""
