"""`turnout plan`: shows what the manifest would create: functions, routes, stages, packages, quotas."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.canary.status import OutputsOption, read_outputs
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load, try_all
from turnout.cli.output import CommandError, counted, notify, passing_remark, say, say_json, say_section, say_table
from turnout.cli.review import ReviewOptions, review
from turnout.wording import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout.packaging.cold_start import ColdStart
    from turnout.plan.budget import CostDifference
    from turnout.plan.costs import Costs
    from turnout.plan.estimates.rest import Rest
    from turnout.plan.values import Api, Function, Plan, Quota, Route, StagePlan
    from turnout.project.project import Project

BAR_WIDTH = 20
NEAR = 0.8
"""Share of a quota from which on the first line warns."""

ColdStartOption = Annotated[
    bool,
    typer.Option(
        "--cold-start",
        help="Also measure cold starts in a fresh process: of each version; with --against, of those that change.",
    ),
]
CallMsOption = Annotated[
    float,
    typer.Option("--call-ms", metavar="MS", min=0, max=900_000, help="Duration of a call, for the estimated cost."),
]
AgainstOption = Annotated[
    str,
    typer.Option(
        "--against",
        metavar="REF",
        help="Print only what changes compared with a git branch, tag or commit.",
        show_default=False,
    ),
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print --against as Markdown, for a pull request.")]
RequestsOption = Annotated[
    Path | None,
    typer.Option(
        "--requests",
        metavar="FILE",
        help="With --against, send these captured requests to each replaced version and its replacement, and compare "
        "the answers. A file of `turnout serve --capture`, or an export of CloudWatch Logs.",
        show_default=False,
    ),
]
FailOnOption = Annotated[
    str,
    typer.Option(
        "--fail-on",
        metavar="KINDS",
        help="Exit with 1 if --against finds a change of these kinds: breaking, disagreement, contract, traffic, "
        "quota, cost, cold-start. Separate them with commas.",
        show_default=False,
    ),
]
DeployerPolicyOption = Annotated[
    bool,
    typer.Option("--deployer-policy", help="Print only the IAM policy that `pulumi up` of this stack needs, as JSON."),
]
AccountOption = Annotated[
    str, typer.Option("--account", metavar="ID", help="Limit --deployer-policy to an AWS account.", show_default=False)
]
RegionOption = Annotated[
    str, typer.Option("--region", metavar="NAME", help="Limit --deployer-policy to a region.", show_default=False)
]
StackOption = Annotated[
    str, typer.Option("--stack", metavar="NAME", help="The stack, which is part of every resource name.")
]


def plan(
    *,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    stack: StackOption = "local",
    cold_start: ColdStartOption = False,
    call_ms: CallMsOption = 20.0,
    outputs: OutputsOption = "",
    against: AgainstOption = "",
    markdown: MarkdownOption = False,
    requests: RequestsOption = None,
    fail_on: FailOnOption = "",
    deployer_policy: DeployerPolicyOption = False,
    account: AccountOption = "*",
    region: RegionOption = "*",
    as_json: JsonOption = False,
) -> None:
    """Show what will be served and deployed.

    Shows stages with their variables and canaries, functions, routes, packages, quotas, and the estimated cost on AWS:
    a month without calls, and a million calls, at list prices or those of `prices` in models.yaml.

    Creates nothing and does not call AWS. Rejects a plan that exceeds a quota known in advance, or the `budget` of
    models.yaml. With --outputs, compares the cost with what is deployed and lists the new routes that only a
    canary's share of requests would reach.
    """
    from turnout.packaging.transform_imports import require_imports
    from turnout.plan.as_json import plan_to_json
    from turnout.plan.budget import compare_costs, require_budget
    from turnout.plan.deployment_notes import find_deployment_notes
    from turnout.plan.planner import make_plan
    from turnout.plan.values import Note
    from turnout.trials.checks import find_notes

    if (markdown or fail_on or requests) and not against:
        message = "--markdown, --fail-on and --requests have no effect without --against."
        raise CommandError(message, "Add --against REF.")
    project = load(manifest)
    if against:
        review(project, manifest, against, ReviewOptions(markdown, as_json, fail_on, requests, cold_start))
        return
    made = make_plan(project.manifest, project.artifacts, stack=stack)
    if deployer_policy:
        say_deployer_policy(made, project, account, region)
        return
    costs = require_budget(made, project.manifest, call_ms)
    deployed = read_outputs(outputs)
    differences = None if deployed is None else compare_costs(costs, deployed)
    tried = try_all(project)
    opened = (Note("", text) for text in require_imports(project, models_only=True).notes)
    notes = (*find_deployment_notes(made, deployed), *find_notes(tried), *opened)
    made = replace(made, notes=(*made.notes, *notes))
    starts = measure(project) if cold_start else None
    if as_json:
        rows = {} if starts is None else {"cold_starts": [start.to_json() for start in starts]}
        compared = {} if differences is None else {"compared_with_deployed": [*map(difference_to_json, differences)]}
        say_json({**plan_to_json(made), "costs": {**costs.to_json(), **compared}, **rows})
        return
    say_plan(made, costs)
    if deployed is not None:
        say_differences(differences)
    if starts is not None:
        say_cold_starts(starts)


def say_deployer_policy(made: Plan, project: Project, account: str, region: str) -> None:
    """Print the policies as JSON: one, or a list if IAM's limit requires several."""
    from turnout.plan.deployer.policy import DeployerScope, build_deployer_policies
    from turnout.project.stack_settings import read_stack_settings

    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    settings = read_stack_settings(project.manifest.path.parent, made.stack)
    policies = build_deployer_policies(
        made, DeployerScope(partition, region, account, settings, project.manifest.domain)
    )
    if len(policies) > 1:
        notify(f"{len(policies)} policies, because one is too small for all statements. Attach all of them.")
    say_json(policies[0] if len(policies) == 1 else policies)


def measure(project: Project) -> list[ColdStart]:
    """Measure every version's cold start; on a terminal, show a temporary line meanwhile."""
    from turnout.gateway.interrupt import remembered_interrupt
    from turnout.packaging.cold_start import ColdStartError, measure_cold_starts

    starts: list[ColdStart] = []
    measured = measure_cold_starts(project)
    try:
        with remembered_interrupt():
            while True:
                with passing_remark(f"measuring cold starts, {len(starts)} of {len(project.artifacts)} ..."):
                    start = next(measured, None)
                if start is None:
                    return starts
                starts.append(start)
    except ColdStartError as error:
        raise CommandError(str(error), code=1) from None


def say_cold_starts(starts: Sequence[ColdStart]) -> None:
    """Print a row per version: the parts of its cold start: import, session, first request, and the runtime alone."""
    say_section("Cold starts, milliseconds on this machine")
    headers = ("FUNCTION", "IMPORT", "SESSION", "FIRST REQUEST", "TOTAL", "RUNTIME ALONE")
    rows = [
        (
            f"{start.model} {start.version}",
            *(
                "" if ms is None else f"{ms:.1f}"
                for ms in (start.import_ms, start.session_ms, start.first_run_ms, start.total_ms, start.bare_ms)
            ),
        )
        for start in starts
    ]
    say_table(headers, rows, right=headers[1:])


def say_plan(made: Plan, costs: Costs | None = None) -> None:
    """Print the whole plan, the most important parts first."""
    from turnout.plan.choice_forms import describe_choices

    say(summary_of(made))
    for api in made.apis:
        for stage in api.stages:
            say_stage(stage, api)
    say_functions(made)
    if made.pools:
        say_pools(made, costs)
    for routes in dict.fromkeys(api.routes for api in made.apis):
        say_routes(routes, [api.name for api in made.apis if api.routes == routes])
    if made.resources:
        say(f"\n{open_inference_text(made)}")
        say(shared_text(made))
        say(describe_choices(made))
    say_packages(made)
    say_quotas(made)
    if costs is not None:
        say_costs(costs)
    if made.notes:
        say_section("Notes")
        for note in made.notes:
            say(f"{note.path}: {note.message}" if note.path else note.message)


def summary_of(made: Plan) -> str:
    """Return the first line: the counts, and which quota is nearly full."""
    routes = sum(len(api.routes) for api in made.apis)
    stages = sum(len(api.stages) for api in made.apis)
    apis = counted(len(made.apis), "API")
    text = (
        f"{made.platform}, stack {made.stack}: {counted(len(made.functions), 'function')}, "
        f"{counted(routes, 'route')} in {apis}, {counted(stages, 'stage')}."
    )
    if made.quotas:
        fullest = max(made.quotas, key=lambda quota: quota.share)
        word = "Over its quota" if fullest.exceeded else "Near its quota" if fullest.share >= NEAR else "Fullest quota"
        text += f"\n{word}: {fullest.name} of {fullest.subject}, {amounts_of(fullest)} ({fullest.share:.0%})."
    return text


def say_stage(stage: StagePlan, api: Api) -> None:
    """Print one stage: its authentication, and its variables, which are its routing table, with the canary's values."""
    throttle = stage.throttle
    facts = [f"API {api.name}", f"auth {stage.auth}"]
    if stage.jwt:
        facts.append(f"tokens of {stage.jwt.issuer}")
    if stage.consumers:
        facts.append(counted(len(stage.consumers), "consumer"))
    if stage.cors:
        facts.append(f"web pages of {', '.join(stage.cors.origins)}")
    if stage.version_override:
        facts.append("callers may choose the version")
    facts.append(f"throttle {throttle.rate:g}/s, burst {throttle.burst}" if throttle else "no throttle")
    if stage.asynchronous:
        facts.append(f"asynchronous requests, kept for {stage.asynchronous.time_to_live_s} s")
    overrides = stage.canary.overrides if stage.canary else {}
    if stage.canary:
        facts.append(f"canary {stage.canary.percent:g}%{', with the new release' if stage.canary.release else ''}")
    say_section(f"Stage {stage.name}: {'; '.join(facts)}")
    names = list(dict.fromkeys((*stage.variables, *overrides)))
    if stage.canary:
        rows = [(name, stage.variables.get(name, "-"), overrides.get(name, "")) for name in names]
        say_table(("VARIABLE", "BASELINE", "CANARY"), rows)
    else:
        say_table(("VARIABLE", "VALUE"), [(name, stage.variables[name]) for name in names])


def say_functions(made: Plan) -> None:
    """Print the functions, one per line."""
    say_section(f"Functions ({len(made.functions):,})")
    headers = ("FUNCTION", "ARCHITECTURE", "MEMORY", "TIMEOUT", "WARM", "PACKAGE")
    rows = (
        (
            function.name,
            function.settings.architecture,
            f"{function.settings.memory_mb:,} MB",
            f"{function.settings.timeout_s} s",
            warm_text(function),
            function.package,
        )
        for function in made.functions
    )
    say_table(headers, rows, right=("MEMORY", "TIMEOUT"))


def say_pools(made: Plan, costs: Costs | None) -> None:
    """Print the pools: how many versions share each function, whether all fit at the same time, and the idle cost."""
    from turnout.manifest.parser import Prices
    from turnout.plan.costs import estimate_pool_rest

    say_section(f"Pools ({len(made.pools):,})")
    memory = {function.name: function.settings.memory_mb for function in made.functions}
    prices = Prices() if costs is None else costs.prices
    rows = (
        (
            pool.name,
            f"{len(pool.versions):,}",
            f"{memory[pool.function]:,} MB",
            size_text(pool.session_bytes),
            size_text(pool.total_bytes),
            "all" if pool.total_bytes <= pool.session_bytes else "those used last",
            f"${estimate_pool_rest(pool, made, prices):,.2f}",
        )
        for pool in made.pools
    )
    headers = ("POOL", "VERSIONS", "MEMORY", "FOR SESSIONS", "ALL SESSIONS", "LOADED", "IDLE A MONTH")
    say_table(headers, rows, right=("VERSIONS", "MEMORY", "FOR SESSIONS", "ALL SESSIONS", "IDLE A MONTH"))


def warm_text(function: Function) -> str:
    """Return a function's warm-up setting, in the manifest's words."""
    if function.settings.warm.snap_start:
        return "snap_start"
    return f"provisioned {function.settings.warm.provisioned}" if function.settings.warm.provisioned else "-"


def say_routes(routes: Sequence[Route], apis: Sequence[str]) -> None:
    """Print the routes that some APIs share, and the functions behind them."""
    say_section(f"Routes ({len(routes):,}) of {' and '.join(apis)}")
    rows = (
        (route.method, route.path, route.kind, route.function, f"{route.timeout_ms / 1000:g} s") for route in routes
    )
    say_table(("METHOD", "PATH", "KIND", "FUNCTION", "TIMEOUT"), rows, right=("TIMEOUT",))


def open_inference_text(made: Plan) -> str:
    """Return how the protocol is served, with its number of resources in an API and those of the alternatives."""
    chosen = made.open_inference
    allowed = next((f" of {quota.allowed:,g}" for quota in made.quotas if quota.name == "resources"), "")
    others = " and ".join(f"{count:,} with {name}" for name, count in made.resources.items() if name != chosen)
    return (
        f"Open Inference Protocol: {chosen}, {made.resources[chosen]:,}{allowed} resources per API. "
        f"Alternatives: {others}."
    )


def shared_text(made: Plan) -> str:
    """Return which models have their own routes, and the cost of the others."""
    models = list(dict.fromkeys(function.model for function in made.unpooled_functions if function.model))
    own = [name for name in models if name not in made.shared]
    if not made.shared:
        return "Routes: direct, one hop from API Gateway to each version. `routes: shared` takes about 20 resources."
    direct = f" Direct: {', '.join(own)}." if own else ""
    return (
        f"Routes: shared by {counted(len(made.shared), 'model')}. Each call goes through {made.functions[-1].name}: "
        f"about 1 ms more when it is warm, and one more call of a function (see the costs).{direct}"
    )


def say_packages(made: Plan) -> None:
    """Print the zips with what makes them large; an artifact in S3 is not in its zip."""
    say_section(f"Packages ({len(made.packages):,}), unzipped")
    rows = (
        (
            package.name,
            package.sha256[:12],
            size_text(package.artifact_bytes),
            size_text(package.code_bytes),
            size_text(package.layer_bytes),
            size_text(package.artifact_bytes + package.code_bytes + package.layer_bytes),
        )
        for package in made.packages
    )
    headers = ("PACKAGE", "DIGEST", "MODEL", "CODE", "LAYER", "TOTAL")
    say_table(headers, rows, right=("MODEL", "CODE", "LAYER", "TOTAL"))


def say_quotas(made: Plan) -> None:
    """Print each quota where it is fullest, and wherever it is nearly full; --json contains all."""
    from turnout.plan.checks.quotas import find_tightest

    say_section("Quotas, each where it is fullest")
    fullest = {id(quota) for quota in find_tightest(made.quotas)}  # two APIs may have equal entries
    shown = [quota for quota in made.quotas if quota.share >= NEAR or id(quota) in fullest]
    rows = (
        (quota.name, quota.subject, amounts_of(quota), f"{quota.share:.0%}", bar_of(quota.share)) for quota in shown
    )
    say_table(("QUOTA", "OF", "USED / ALLOWED", "SHARE", ""), rows, right=("USED / ALLOWED", "SHARE"), spare=True)


def say_costs(costs: Costs) -> None:
    """Print the cost of a month without calls and of a million calls, and the assumptions."""
    say_section(f"Cost on AWS, a month without calls: ${costs.rest_dollars:,.2f}")
    say_rest(costs.rest)
    say_section("Cost on AWS, dollars per million calls")
    headers = ("MODEL", "VIA", "API GATEWAY", "CALLS", "RUNNING", "LOG", "TOTAL")
    calls = [
        (
            f"{cost.model} {cost.version}".rstrip(),
            cost.via,
            *(f"{dollars:,.2f}" for dollars in (cost.api_gateway, cost.calls, cost.running, cost.log, cost.dollars)),
        )
        for cost in costs.million
    ]
    say_table(headers, calls, right=headers[2:])
    if costs.asynchronous:
        total = sum(cost.dollars for cost in costs.asynchronous)
        say_section(f"Cost on AWS, a million asynchronous requests besides their calls: ${total:,.2f}")
        say_rest(costs.asynchronous)
    say()
    for sentence in costs.assumptions:
        say(f"  {sentence}")


def say_rest(items: Sequence[Rest]) -> None:
    """Print amounts with their prices."""
    rows = [
        (
            cost.name,
            f"{cost.amount:,.6g} {cost.unit}".rstrip(),
            f"{cost.price:.10f}".rstrip("0").rstrip("."),
            f"{cost.dollars:,.2f}",
        )
        for cost in items
    ]
    say_table(("ITEM", "AMOUNT", "PRICE", "DOLLARS"), rows, right=("AMOUNT", "PRICE", "DOLLARS"))


def say_differences(differences: Sequence[CostDifference] | None) -> None:
    """Print the change of costs compared with the deployed plan."""
    from turnout.plan.budget import REST, describe_difference

    say_section("Cost compared with what is deployed")
    if differences is None:
        say("Unknown: an older version of Turnout deployed the stack. The next `pulumi up` records its cost.")
        return
    for entry in differences:
        name = entry.name.capitalize() if entry.name == REST else f"A million calls of {entry.name}"
        say(f"{name}: {describe_difference(entry)}.")


def difference_to_json(entry: CostDifference) -> dict[str, Any]:
    """Return one amount that differs, for programs."""
    return {**asdict(entry), "dollars": round(entry.dollars, 6)}


def amounts_of(quota: Quota) -> str:
    """Return `42 / 300`, `98.3 MB / 250.0 MB`, `15 / 29 s`."""
    from turnout.plan.checks.quotas import spell_amount

    used = spell_amount(quota.used, quota.unit if quota.unit == "bytes" else "")
    return f"{used} / {spell_amount(quota.allowed, quota.unit)}"


def bar_of(share: float) -> str:
    """Return `####................`: any use fills at least one."""
    filled = min(BAR_WIDTH, max(round(share * BAR_WIDTH), 1 if share > 0 else 0))
    return "#" * filled + "." * (BAR_WIDTH - filled)
