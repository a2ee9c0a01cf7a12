"""Custom domains: names, the paths that lead to stages, and records.

An API cannot be deleted while a path leads to it. [LIVE] "Please remove all base path mappings related to the stages in
this API", serverless/serverless and terraform-provider-aws issues. [LIVE] "Base path already exists for this domain
name" is what serverless-domain-manager expects, and what moto answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.engine.stand_in.provider import Calls, Inputs


class MappedError(Exception):
    """A path of a domain is taken, or an API is still mapped to one."""


@dataclass
class Domains:
    """All domains of the account.

    Attributes:
        names: the domains.
        paths: (domain, base path) -> API and stage; the base path of the root is empty.
        records: name -> target.
        changes: mappings that were changed in place.
    """

    names: set[str] = field(default_factory=set)
    paths: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    changes: list[tuple[str, str]] = field(default_factory=list)

    def check_unmapped(self, api: str) -> None:
        """Raise an error when an API that a path leads to is deleted."""
        paths = [path for path, (mapped, _) in self.paths.items() if mapped == api]
        if paths:
            raise MappedError(f"Please remove all base path mappings related to the API {api}: {paths}")

    def _map(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        key = inputs["domainName"], inputs.get("basePath") or ""
        if key in self.paths:
            raise MappedError(f"Base path already exists for this domain name: {key}")
        if key[0] not in self.names:
            raise MappedError(f"Invalid domain name identifier specified: {key[0]}")
        self.paths[key] = inputs["restApi"], inputs["stageName"]
        return "/".join(key), {}

    def _change(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        key = inputs["domainName"], inputs.get("basePath") or ""
        self.paths.pop((before["domainName"], before.get("basePath") or before.get("apiMappingKey") or ""))
        self.paths[key] = inputs["restApi"], inputs["stageName"]
        self.changes.append(key)
        return {}

    def _make_name(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        name = inputs["domainName"]
        self.names.add(name)
        target = f"d-{len(self.names)}.execute-api.eu-central-1.amazonaws.com"
        return name, {"regionalDomainName": target, "regionalZoneId": "Z1U9ULNL0V5AJ3", "arn": f"arn:aws:{name}"}

    def _make_record(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        self.records[inputs["name"]] = inputs["aliases"][0]["name"]
        return inputs["name"], {"fqdn": inputs["name"]}

    def resources(self) -> dict[str, Calls]:
        """Type token -> implementation of the resource."""
        return {
            "aws:apigateway/domainName:DomainName": Calls(
                make=self._make_name,
                remove=lambda identity, _: self.names.remove(identity),
                replaced_by=frozenset({"domainName"}),
                computed=("regionalDomainName", "regionalZoneId", "arn"),
            ),
            "aws:apigateway/basePathMapping:BasePathMapping": Calls(
                make=self._map,
                change=self._change,
                remove=lambda _, state: self.paths.pop((state["domainName"], state.get("basePath") or "")),
                replaced_by=frozenset({"domainName"}),
            ),
            # Another API makes a new mapping, unlike above. Source: terraform-provider-aws,
            # internal/service/apigatewayv2/api_mapping.go (`ForceNew` of `api_id` and `domain_name`).
            "aws:apigatewayv2/apiMapping:ApiMapping": Calls(
                make=lambda inputs: self._map(_as_base_path(inputs)),
                change=lambda identity, before, inputs: self._change(identity, before, _as_base_path(inputs)),
                remove=lambda _, state: self.paths.pop((state["domainName"], state["apiMappingKey"])),
                replaced_by=frozenset({"apiId", "domainName"}),
            ),
            "aws:route53/record:Record": Calls(
                make=self._make_record,
                remove=lambda identity, _: self.records.pop(identity),
                replaced_by=frozenset({"name", "type", "zoneId"}),
                computed=("fqdn",),
            ),
        }


def _as_base_path(inputs: Inputs) -> Inputs:
    """Return the mapping of version 2 as one of version 1."""
    return {
        "domainName": inputs["domainName"],
        "basePath": inputs["apiMappingKey"],
        "restApi": inputs["apiId"],
        "stageName": inputs["stage"],
    }
