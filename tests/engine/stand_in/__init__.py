"""A Pulumi provider named `aws` that applies each resource with boto3 to a moto server.

It needs neither an AWS account nor the released provider's binary: the engine gets this provider's address. It follows
the released provider where that determines the result: which inputs force a replacement, which outputs are computed,
and that a stage's changes are one UpdateStage call with the operations in the provider's order.
"""
