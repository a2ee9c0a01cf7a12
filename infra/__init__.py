"""infra: the Pulumi program, from models.yaml to API Gateway and Lambda."""
