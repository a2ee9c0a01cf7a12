"""Checks what only an AWS account can show: deploys the sample to a throwaway stack, tests it, and destroys it.

`scripts/aws-check` runs it; `python -m turnout.infra.aws_check` does where Turnout is installed.
"""
