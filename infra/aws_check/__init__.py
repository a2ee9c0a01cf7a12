"""What only an account of AWS can settle: the sample is deployed to a throwaway stack, tried, and destroyed.

`scripts/aws-check` runs it; `python -m turnout.infra.aws_check` does where Turnout is installed.
"""
