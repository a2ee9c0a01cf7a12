"""Who may assume a role: STS's decision when a service asks, by the role's trust policy.

API Gateway sends neither `aws:SourceAccount` nor `aws:SourceArn`, so a condition that requires one of them is never
met. [LIVE] aws-solutions-library-samples/accelerated-intelligent-document-processing-on-aws, pull request 479.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.engine.stand_in.clients import checking_client

SENT: Mapping[str, Mapping[str, str]] = {
    "apigateway.amazonaws.com": {},
    "lambda.amazonaws.com": {},
}
"""Service -> the condition keys that it certainly sends. For Lambda the evidence is contradictory, so none."""


class AssumeRoleError(Exception):
    """A service may not assume a role."""


def assume_role(arn: str, service: str) -> None:
    """Assume a role as a service does.

    Raises:
        AssumeRoleError: the role does not exist, or its trust policy does not allow the service.
    """
    client = checking_client("iam")
    try:
        role = client.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except client.exceptions.NoSuchEntityException:
        raise AssumeRoleError(f"{arn}: there is no such role") from None
    document = role["AssumeRolePolicyDocument"]
    policy = json.loads(document) if isinstance(document, str) else document
    if not any(allows(statement, service) for statement in policy["Statement"]):
        raise AssumeRoleError(f"{service} does not have permission to assume the provided role {arn}")


def allows(statement: Mapping[str, Any], service: str) -> bool:
    """Whether a statement of a trust policy allows a service to assume the role."""
    named = statement["Principal"].get("Service", [])
    services = [named] if isinstance(named, str) else named
    if statement["Effect"] != "Allow" or statement["Action"] != "sts:AssumeRole" or service not in services:
        return False
    return all(is_met(operator, tests, SENT[service]) for operator, tests in statement.get("Condition", {}).items())


def is_met(operator: str, tests: Mapping[str, Any], sent: Mapping[str, str]) -> bool:
    """Whether all tests of one operator are met; a key that was not sent meets only `...IfExists`."""
    for key, wanted in tests.items():
        values = [wanted] if isinstance(wanted, str) else wanted
        result = sent.get(key)
        if result is None:
            if not operator.endswith("IfExists"):
                return False
        elif not any(fnmatch.fnmatchcase(result, value) for value in values):
            return False
    return True


def credentials_of(document: Mapping[str, Any]) -> Iterator[str]:
    """Return the roles that an OpenAPI document names for its integrations, each once."""
    result = {
        operation["x-amazon-apigateway-integration"].get("credentials", "")
        for methods in document["paths"].values()
        for operation in methods.values()
        if "x-amazon-apigateway-integration" in operation
    }
    yield from sorted(result - {""})
