"""Asynchronous requests on AWS: their state in S3, their messages in SQS, and their acceptance and runs in functions.

`docs/decisions/0014-queue-on-aws.md` gives the reasons. boto3 is part of Lambda's runtime; only `connect` imports it,
so a function without asynchronous requests starts without it.
"""
