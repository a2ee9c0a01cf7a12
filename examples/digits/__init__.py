"""The sample model `digits`."""
