"""The resource policy of a REST API, which defines from where the API can be called.

It is part of the OpenAPI document, because an import overwrites a policy that is set elsewhere. Source: API Gateway
Developer Guide, "API Gateway resource policy examples", "How API Gateway resource policies affect authorization
workflow".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnout.plan.values import Api

from .naming import Place
from .stack.settings import NetworkSettings

INVOKE = "execute-api:Invoke"
ANYWHERE = "execute-api:/*"
"""In a document, API Gateway prepends the API's own ARN to this."""

SIGNED = "iam"


def extend_document(document: dict[str, Any], api: Api, place: Place, network: NetworkSettings) -> dict[str, Any]:
    """Return the document with the API's resource policy and, for a private one, its VPC endpoints."""
    added: dict[str, Any] = {}
    statements = list(build_statements(api, place, network))
    if statements:
        added["x-amazon-apigateway-policy"] = {"Version": "2012-10-17", "Statement": statements}
    if network.vpc_endpoint_ids:
        ids = list(network.vpc_endpoint_ids)
        added["x-amazon-apigateway-endpoint-configuration"] = {"vpcEndpointIds": ids}
    return {**document, **added} if added else document


def build_statements(api: Api, place: Place, network: NetworkSettings) -> Iterator[dict[str, Any]]:
    """Yield the policy's statements; none for an API without restrictions.

    A signed call (`auth: iam`) needs the caller's own permission, which a statement that allows everyone would replace.
    Therefore only the account is allowed, and everyone for the health routes, which are not signed.
    """
    if not network.vpc_endpoint_ids and not network.allowed_ips:
        return
    if api.auth == SIGNED:
        yield _allow({"AWS": f"arn:{place.partition}:iam::{place.account}:root"}, [ANYWHERE])
        health = sorted({route.path for route in api.routes if route.kind == "health"})
        paths = [path.replace("{check}", "*") for path in health]
        resources = [f"execute-api:/*/{method}{path}" for path in paths for method in ("GET", "HEAD", "OPTIONS")]
        yield _allow("*", resources)
    else:
        yield _allow("*", [ANYWHERE])
    if network.vpc_endpoint_ids:
        yield _deny("StringNotEquals", "aws:SourceVpce", network.vpc_endpoint_ids)
    if network.allowed_ips:
        # For calls through a VPC endpoint, another key holds the caller's address.
        source = "aws:VpcSourceIp" if network.vpc_endpoint_ids else "aws:SourceIp"
        yield _deny("NotIpAddress", source, network.allowed_ips)


def _allow(principal: Any, resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": INVOKE, "Resource": resources}


def _deny(operator: str, key: str, values: tuple[str, ...]) -> dict[str, Any]:
    condition = {operator: {key: list(values)}}
    return {"Effect": "Deny", "Principal": "*", "Action": INVOKE, "Resource": [ANYWHERE], "Condition": condition}
