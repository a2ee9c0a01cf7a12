"""A Pulumi provider named `aws` that carries each resource out with boto3 against a moto server.

Nobody needs an AWS account, nor the released provider's binary: the engine is told where this one listens. It follows
the released provider where that decides what happens: which inputs force a replacement, what is computed, and that a
stage's changes are one UpdateStage call with the operations in the provider's order.
"""
