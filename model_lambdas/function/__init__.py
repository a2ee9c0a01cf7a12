"""What every runtime shares: entry, handler, transform, capture, metrics, stored models, and what a runtime must be."""
