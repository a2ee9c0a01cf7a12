"""Places that keep models with versions: MLflow servers and Hugging Face's hub."""
