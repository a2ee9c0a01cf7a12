"""What tests build with: small ONNX graphs, manifests, events. Fakes and builders instead of patches."""
