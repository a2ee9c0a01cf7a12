"""One host name for all stages: the custom domain, a mapping for each stage, and the name's DNS record.

A mapping is named after its stage only. When `auth` or `cors` moves a stage to another API, the mapping is updated in
place and the address stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.manifest.parser import Domain
from turnout.manifest.schema import check_domain

from ..stages import ApiStage


def read_domain_settings(named: Domain | None, *, is_private: bool = False) -> Domain | None:
    """Return the domain of models.yaml, with the overrides of the stack's configuration.

    Raises:
        pulumi.RunError: a key of the configuration is unknown, or AWS would not accept its value; or the stack's APIs
            are private, which AWS maps to private custom domain names alone.
    """
    configured: Any = pulumi.Config("turnout").get_object("domain")
    if configured is None:
        domain = named
    else:
        base = {} if named is None else {key: value for key, value in asdict(named).items() if value != ""}
        if not isinstance(configured, dict):
            raise pulumi.RunError(f"turnout:domain: must be a mapping, got {configured!r}")
        known = {field.name for field in fields(Domain)}
        problems = check_domain(base | configured)
        if problems:
            raise pulumi.RunError("\n".join(f"turnout:domain: {problem}" for problem in problems))
        domain = Domain(**{key: value for key, value in (base | configured).items() if key in known})
    if domain is not None and is_private:
        raise pulumi.RunError(
            f"domain: {domain.name} cannot lead to private APIs (turnout:vpc_endpoint_ids): AWS accepts only private "
            "domain names for them. Delete `domain` from models.yaml, and set `turnout:domain` in the other stacks"
        )
    if domain is not None and domain.create and not domain.certificate_arn:
        raise pulumi.RunError(
            f"domain.certificate_arn is missing: AWS needs a certificate for {domain.name}. Name one, or set "
            "`create: false` for a domain that exists"
        )
    return domain


@dataclass(frozen=True, slots=True)
class ProjectDomainArgs:
    """Arguments of the custom domain.

    Args:
        domain: from models.yaml and the configuration.
        stages: name -> stage, across all APIs.
        default_stage: the stage that serves paths without a stage.
    """

    domain: Domain
    stages: Mapping[str, ApiStage]
    default_stage: str


class ProjectDomain(pulumi.ComponentResource):
    """The domain, with a mapping for each stage and one for paths without a stage.

    Attributes:
        resource: the domain; None if the stack does not make it.
        target: the host name to which a CNAME record of the domain points; None if the stack does not make the domain.
        addresses: stage -> its address.
    """

    def __init__(self, name: str, args: ProjectDomainArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:ProjectDomain", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        domain = args.domain
        host: pulumi.Input[str] = domain.name
        self.resource: aws.apigateway.DomainName | None = None
        self.target: pulumi.Output[str] | None = None
        self.addresses = {stage: f"https://{domain.name}/{domain.path_of(stage)}" for stage in args.stages}
        if domain.create:
            self.resource = made = aws.apigateway.DomainName(
                name,
                domain_name=domain.name,
                regional_certificate_arn=domain.certificate_arn,
                security_policy=domain.tls_policy,
                endpoint_configuration={"types": "REGIONAL"},
                opts=within,
            )
            host, self.target = made.domain_name, made.regional_domain_name
            if domain.hosted_zone_id:
                aws.route53.Record(
                    name,
                    name=domain.name,
                    type="A",
                    zone_id=domain.hosted_zone_id,
                    aliases=[
                        {
                            "name": made.regional_domain_name,
                            "zone_id": made.regional_zone_id,
                            "evaluate_target_health": False,
                        }
                    ],
                    opts=within,
                )
        for stage, api_stage in args.stages.items():
            _map(f"{name}-{stage}", host, domain.path_of(stage), api_stage, within)
        _map(name, host, domain.path_of(), args.stages[args.default_stage], within)
        self.register_outputs({})


def _map(name: str, host: pulumi.Input[str], path: str, stage: ApiStage, opts: pulumi.ResourceOptions) -> None:
    """Map a path of the domain to a stage. Mappings of REST APIs have one segment; those of version 2 may have more.

    The provider changes a base path mapping's API in place. It replaces a mapping of several levels, and since the path
    is occupied until the old mapping is deleted, no mapping exists for some seconds. Source: terraform-provider-aws,
    apigatewayv2/api_mapping.go.
    """
    api, stage_name = stage.stage.rest_api, stage.stage.stage_name
    if "/" in path:
        replaced = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=True))
        aws.apigatewayv2.ApiMapping(
            name, api_id=api, domain_name=host, stage=stage_name, api_mapping_key=path, opts=replaced
        )
    else:
        aws.apigateway.BasePathMapping(
            name, rest_api=api, domain_name=host, stage_name=stage_name, base_path=path or None, opts=opts
        )
