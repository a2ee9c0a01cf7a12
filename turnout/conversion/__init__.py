"""Models of other libraries made ONNX versions: fetched, converted in isolation, and proved to answer the same."""
