"""The sample model `credit`."""
