"""Places that store models with versions: MLflow servers and the Hugging Face Hub."""
