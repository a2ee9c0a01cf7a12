"""The IAM policy that a principal needs to deploy a project."""
