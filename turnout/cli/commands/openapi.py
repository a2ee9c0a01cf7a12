"""`turnout openapi`: prints the OpenAPI document that both servers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, counted, notify, say_json

if TYPE_CHECKING:
    from turnout.plan.values import Api, Plan

PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}

ApiOption = Annotated[str, typer.Option("--api", metavar="NAME", help="The API to print, if the stages need several.")]
StageOption = Annotated[str, typer.Option("--stage", metavar="NAME", help="Print the API of this stage.")]
RegionOption = Annotated[str, typer.Option("--region", metavar="REGION", help="AWS region in the integration URIs.")]
AccountOption = Annotated[str, typer.Option("--account", metavar="NUMBER", help="AWS account in the integration URIs.")]
StackOption = Annotated[
    str, typer.Option("--stack", metavar="NAME", help="The stack whose functions the integration URIs name.")
]


def openapi(
    *,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    api: ApiOption = "",
    stage: StageOption = "",
    stack: StackOption = "local",
    region: RegionOption = "us-east-1",
    account: AccountOption = "000000000000",
) -> None:
    """Print the OpenAPI document.

    OpenAPI 3.0 with API Gateway's extensions: the document that `pulumi up` imports and `turnout serve` implements.
    Stages with different auth have separate documents; choose one with --stage or --api (default: the first stage's).
    Rejects a document that is too large for API Gateway.
    """
    from turnout.openapi.document import build_document, check_document, lambda_uri
    from turnout.openapi.documentation_parts import MOST_PARTS, count_documentation_parts
    from turnout.plan.planner import make_plan

    project = load(manifest)
    plan = make_plan(project.manifest, project.artifacts, stack=stack)
    chosen = choose_api(plan, api, stage, first_stage=project.manifest.stages[0].name)
    uri_of = lambda_uri(partition_of(region), region, account)
    document = build_document(plan, chosen, uri_of, examples=project.first_requests)
    check_document(document)
    parts = count_documentation_parts(document)
    if parts > MOST_PARTS:
        notify(
            f"{chosen.name}: {parts:,} documentation parts, {MOST_PARTS:,} allowed in an API. If you import the "
            "document yourself, pass `--parameters ignore=documentation`, as `pulumi up` does."
        )
    say_json(document)


def partition_of(region: str) -> str:
    """Return the AWS partition of a region, the second word of every ARN in it."""
    return next((part for start, part in PARTITIONS.items() if region.startswith(start)), "aws")


def choose_api(plan: Plan, name: str, stage: str, *, first_stage: str) -> Api:
    """Return the named API, the stage's, or the first stage's; if none matches, raise an error that lists them."""
    if name and stage:
        raise CommandError("--api and --stage cannot be combined: both choose the API.")
    if name:
        fitting = [api for api in plan.apis if api.name == name]
        known = ", ".join(api.name for api in plan.apis)
    else:
        fitting = [
            api for api in plan.apis if any(candidate.name == (stage or first_stage) for candidate in api.stages)
        ]
        known = ", ".join(candidate.name for api in plan.apis for candidate in api.stages)
    if not fitting:
        noun = "API" if name else "stage"
        raise CommandError(f"unknown {noun} {name or stage!r}.", f"Known {noun}s: {known}.")
    if len(plan.apis) > 1 and not (name or stage):
        notify(
            f"Printed API {fitting[0].name}, one of {counted(len(plan.apis), 'API')}. Choose another with "
            "--stage or --api."
        )
    return fitting[0]
