"""Builders for tests: small ONNX graphs, manifests, events. Tests use fakes and builders instead of patches."""
