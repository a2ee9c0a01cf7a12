"""Encoders of Hugging Face: the tokenizer travels with the version, and the endpoint takes text."""
