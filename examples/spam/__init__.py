"""The sample model `spam`."""
