"""One host name for every stage: the custom domain, a mapping for each stage, and the name's record.

A mapping is named after its stage alone. When `auth` or `cors` gives a stage another API, the mapping is updated in
place: the address stays.
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


def read_domain_settings(named: Domain | None) -> Domain | None:
    """The domain of models.yaml, with what the stack's configuration says instead.

    Raises:
        pulumi.RunError: a key of the configuration is unknown, or its value is none that AWS takes.
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
    if domain is not None and domain.create and not domain.certificate_arn:
        raise pulumi.RunError(
            f"domain.certificate_arn is missing: AWS needs a certificate for {domain.name}. Name one, or set "
            "`create: false` for a domain that exists"
        )
    return domain


@dataclass(frozen=True, slots=True)
class ProjectDomainArgs:
    """The parts of a domain.

    Args:
        domain: as models.yaml and the configuration have it.
        stages: name -> stage, of all APIs.
        default_stage: the one that paths without a stage reach.
    """

    domain: Domain
    stages: Mapping[str, ApiStage]
    default_stage: str


class ProjectDomain(pulumi.ComponentResource):
    """The domain, with a mapping for each stage and one for paths without a stage.

    Attributes:
        target: what a CNAME of the name points at; None where the stack does not make the domain.
    """

    def __init__(self, name: str, args: ProjectDomainArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:ProjectDomain", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        domain = args.domain
        host: pulumi.Input[str] = domain.name
        self.target: pulumi.Output[str] | None = None
        if domain.create:
            made = aws.apigateway.DomainName(
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
    """Lead a path of the domain to a stage. REST API's own mappings have one segment; those of version 2 have more.

    The provider may replace a mapping of version 2 whose API changes: the path is taken until the old one is deleted.
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
