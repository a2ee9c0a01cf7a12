"""The CloudWatch log groups that functions write to: one for each function, for each model, or for the stack."""

from __future__ import annotations

from turnout.protocol.naming import ROUTER, split_function_name

PER_FUNCTION, PER_MODEL, PER_STACK = "function", "model", "stack"

LOG_GROUPINGS = (PER_FUNCTION, PER_MODEL, PER_STACK)
"""Values of the stack's setting `log_groups`."""

SHARED = "functions"
"""The end of the log group's name of a whole stack. Policies cover it: its name starts like the functions' names."""


def log_group_name(function: str, grouping: str = PER_FUNCTION) -> str:
    """Return the log group of a function: `/aws/lambda/turnout-prod_iris_v1`, `..._iris` or `..._functions`."""
    prefix, model = function.partition("_")[0], split_function_name(function)[0]
    last = {PER_FUNCTION: "", PER_MODEL: model or ROUTER, PER_STACK: SHARED}[grouping]
    return f"/aws/lambda/{prefix}_{last}" if last else f"/aws/lambda/{function}"
