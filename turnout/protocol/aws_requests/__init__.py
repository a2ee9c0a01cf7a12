"""Asynchronous requests on AWS: their state in S3, their messages in SQS, and how functions accept and run them.

`docs/decisions/0014-queue-on-aws.md` says why. boto3 is in Lambda's runtime; it is imported by `connect` alone, so a
function that is asked for nothing asynchronous starts without it.
"""
