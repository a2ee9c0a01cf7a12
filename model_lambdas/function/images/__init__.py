"""Versions that read images: `input: {kind: image}`."""
