"""Turnout: many ONNX models, each in many versions, behind one versioned HTTP API."""

__version__ = "0.1.0"
