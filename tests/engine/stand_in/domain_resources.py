"""Custom domains: names, the paths that lead to stages, and records.

An API cannot be deleted while a path leads to it. [LIVE] "Please remove all base path mappings related to the stages in
this API", serverless/serverless and terraform-provider-aws issues. [LIVE] "Base path already exists for this domain
name" is what serverless-domain-manager expects, and what moto answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.engine.stand_in.clients import record_call
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
        record_call("apigateway", "create_domain_name", domainName=name)
        record_call("apigateway", "get_domain_name", domainName=name)
        target = f"d-{len(self.names)}.execute-api.eu-central-1.amazonaws.com"
        return name, {"regionalDomainName": target, "regionalZoneId": "Z1U9ULNL0V5AJ3", "arn": f"arn:aws:{name}"}

    def _remove_name(self, identity: str, _: Inputs) -> None:
        self.names.remove(identity)
        record_call("apigateway", "delete_domain_name", domainName=identity)

    def _unmap(self, _: str, state: Inputs) -> None:
        domain, path = state["domainName"], state.get("basePath") or ""
        self.paths.pop((domain, path))
        record_call("apigateway", "delete_base_path_mapping", domainName=domain, basePath=path or "(none)")

    def _unmap_levels(self, _: str, state: Inputs) -> None:
        self.paths.pop((state["domainName"], state["apiMappingKey"]))
        record_call("apigatewayv2", "delete_api_mapping", DomainName=state["domainName"], ApiMappingId="m1")

    def _map_path(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        named = {"domainName": inputs["domainName"], "basePath": inputs.get("basePath") or "(none)"}
        record_call("apigateway", "create_base_path_mapping", **named, restApiId=inputs["restApi"])
        record_call("apigateway", "get_base_path_mapping", **named)
        return self._map(inputs)

    def _change_path(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        path = inputs.get("basePath") or "(none)"
        record_call("apigateway", "update_base_path_mapping", domainName=inputs["domainName"], basePath=path)
        return self._change(identity, before, inputs)

    def _map_levels(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        domain = inputs["domainName"]
        record_call(
            "apigatewayv2", "create_api_mapping", DomainName=domain, ApiId=inputs["apiId"], Stage=inputs["stage"]
        )
        record_call("apigatewayv2", "get_api_mapping", DomainName=domain, ApiMappingId="m1")
        return self._map(_as_base_path(inputs))

    def _change_levels(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        domain, api = inputs["domainName"], inputs["apiId"]
        record_call("apigatewayv2", "update_api_mapping", DomainName=domain, ApiMappingId="m1", ApiId=api)
        return self._change(identity, before, _as_base_path(inputs))

    def _change_records(self, zone: str, action: str, name: str) -> None:
        change = {"Action": action, "ResourceRecordSet": {"Name": name, "Type": "A"}}
        record_call("route53", "get_hosted_zone", Id=zone)
        record_call("route53", "change_resource_record_sets", HostedZoneId=zone, ChangeBatch={"Changes": [change]})
        record_call("route53", "get_change", Id="C1")
        record_call("route53", "list_resource_record_sets", HostedZoneId=zone)

    def _remove_record(self, identity: str, state: Inputs) -> None:
        self.records.pop(identity)
        self._change_records(state["zoneId"], "DELETE", identity)

    def _make_record(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        self._change_records(inputs["zoneId"], "CREATE", inputs["name"])
        self.records[inputs["name"]] = inputs["aliases"][0]["name"]
        return inputs["name"], {"fqdn": inputs["name"]}

    def resources(self) -> dict[str, Calls]:
        """Type token -> implementation of the resource."""
        return {
            "aws:apigateway/domainName:DomainName": Calls(
                make=self._make_name,
                remove=self._remove_name,
                replaced_by=frozenset({"domainName"}),
                computed=("regionalDomainName", "regionalZoneId", "arn"),
            ),
            "aws:apigateway/basePathMapping:BasePathMapping": Calls(
                make=self._map_path,
                change=self._change_path,
                remove=self._unmap,
                replaced_by=frozenset({"domainName"}),
            ),
            # Another API makes a new mapping, unlike above. Source: terraform-provider-aws,
            # internal/service/apigatewayv2/api_mapping.go (`ForceNew` of `api_id` and `domain_name`).
            "aws:apigatewayv2/apiMapping:ApiMapping": Calls(
                make=self._map_levels,
                change=self._change_levels,
                remove=self._unmap_levels,
                replaced_by=frozenset({"apiId", "domainName"}),
            ),
            "aws:route53/record:Record": Calls(
                make=self._make_record,
                remove=self._remove_record,
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
