"""The sample model `iris`."""
