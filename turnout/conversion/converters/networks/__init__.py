"""Converters for models whose inputs are whole tensors: Keras and TensorFlow."""
