"""models.yaml as checked, frozen values: schema, references, judgement settings."""
