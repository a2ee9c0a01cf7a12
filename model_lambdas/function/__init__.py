"""What every model runtime shares: entry, handler, transform, capture, metrics, stored models."""
