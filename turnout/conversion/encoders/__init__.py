"""Models of Hugging Face with their transforms: endpoints that take text or images."""
