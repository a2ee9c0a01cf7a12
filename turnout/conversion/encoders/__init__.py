"""Models of Hugging Face with their transforms: endpoints that accept text or images."""
