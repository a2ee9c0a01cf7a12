"""The general router: the catalogue, health and the Open Inference Protocol's paths."""
