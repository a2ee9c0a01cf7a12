"""The costs of a plan on AWS, part by part."""
