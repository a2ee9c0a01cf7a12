"""`turnout plan --against REF`: describes the effect of a change before it is merged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from turnout.cli.output import CommandError, notify, passing_remark, say, say_json
from turnout.problems import ProblemsError

if TYPE_CHECKING:
    from turnout.packaging.cold_start import ColdStart
    from turnout.plan.values import Plan
    from turnout.project.project import Project
    from turnout.review.agreement import Ask, Replaced, ReplacedAgreement
    from turnout.review.changes import Change, Reviewed


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """Options of `turnout plan` for --against.

    Args:
        markdown: whether to print Markdown.
        as_json: whether to print JSON.
        fail_on: kinds, separated by commas.
        requests: the file with captured requests, or None.
        cold_start: whether to measure cold starts.
    """

    markdown: bool = False
    as_json: bool = False
    fail_on: str = ""
    requests: Path | None = None
    cold_start: bool = False


def review(project: Project, manifest: Path, ref: str, options: ReviewOptions) -> None:
    """Print the changes between a revision and the working tree. Exit with 1 if `fail_on` names the kind of one."""
    from turnout.problems import TurnoutError
    from turnout.project.manifest_file import manifest_path
    from turnout.review.agreement import find_graphs, find_replaced
    from turnout.review.changes import KINDS, find_changes
    from turnout.review.report import render_markdown, render_text
    from turnout.review.revision import read_revision

    wanted = [kind.strip() for kind in options.fail_on.split(",") if kind.strip()]
    for kind in wanted:
        if kind not in KINDS:
            raise CommandError(f"--fail-on: unknown kind {kind!r}.", f"Known kinds: {', '.join(KINDS)}.")
    if "disagreement" in wanted and options.requests is None:
        raise CommandError("--fail-on disagreement needs captured requests.", "Add --requests FILE.")
    agreements: list[ReplacedAgreement] = []
    starts: list[MeasuredStart] = []
    try:
        with read_revision(manifest_path(manifest), ref) as former:
            before, after = reviewed(former), reviewed(project)
            changes = list(find_changes(before, after))
            replaced = find_replaced(former, project)
            if options.requests is not None:
                changes += find_graphs(former.manifest, project.manifest)
                agreements = compare(options.requests, replaced, (former, before.plan), (project, after.plan))
            if options.cold_start:
                starts = measure_changed(former, project, replaced)
    except TurnoutError as error:
        raise CommandError(f"--against: {error.message}.", error.hint) from error
    except ProblemsError as error:
        listed = "\n    ".join(str(problem) for problem in error.problems)
        raise CommandError(f"--against: the project at {ref} has problems:\n    {listed}") from error
    changes += [agreement.change() for agreement in agreements]
    changes += [start.change() for start in starts]
    changes.sort(key=lambda change: KINDS.index(change.kind))
    if options.as_json:
        compared = {} if options.requests is None else {"agreement": [entry.to_json() for entry in agreements]}
        measured = {"cold_starts": [start.to_json() for start in starts]} if options.cold_start else {}
        say_json({"against": ref, "changes": [asdict(change) for change in changes], **compared, **measured})
    else:
        say((render_markdown if options.markdown else render_text)(changes, ref))
    if any(change.kind in wanted for change in changes):
        raise typer.Exit(1)


def reviewed(project: Project) -> Reviewed:
    """One side of a comparison."""
    from turnout.plan.costs import estimate_costs
    from turnout.plan.planner import make_plan
    from turnout.review.changes import Reviewed

    plan = make_plan(project.manifest, project.artifacts, enforce=False)
    return Reviewed(project.manifest, plan, estimate_costs(plan, project.manifest))


def compare(
    requests: Path, replaced: Sequence[Replaced], before: tuple[Project, Plan], after: tuple[Project, Plan]
) -> list[ReplacedAgreement]:
    """Compare each replaced version with its successor on captured requests, in this process."""
    from turnout.client.captured_lines import CaptureError
    from turnout.review.agreement import compare_replaced, read_samples

    try:
        samples = read_samples(requests)
    except CaptureError as error:
        raise CommandError(f"--requests {requests}, {error}.") from error
    except OSError as error:
        raise CommandError(f"--requests: cannot read {requests}: {error.strerror}.") from error
    if not samples:
        hint = "Capture some with `turnout serve --capture FILE`, or export a function's log."
        raise CommandError(f"--requests: {requests} contains no captured requests.", hint)
    if not replaced:
        notify("--requests: no version replaces another one, so nothing is compared.")
    compared = []
    for entry in replaced:
        with ExitStack() as stack, passing_remark(f"comparing {entry.model} {entry.before} and {entry.after} ..."):
            asks = (
                asking(stack, *before),
                asking(stack, *after),
            )
            compared.append(compare_replaced(entry, samples.get(entry.model, ()), before[0], after[0], asks))
    return compared


def asking(stack: ExitStack, project: Project, plan: Plan) -> Ask:
    """Call a project's versions in this process, each open only while it is called."""
    from turnout.cli.commands.test import reply_of
    from turnout.gateway.editions.example_calls import calling_in_process

    call = stack.enter_context(calling_in_process(project, plan))
    return lambda version, sample: reply_of(call, version, sample.body, sample.headers)


@dataclass(frozen=True, slots=True)
class MeasuredStart:
    """The cold start of a changed version, and of the version that it replaces.

    Args:
        after: measured in the working tree.
        before: of the replaced version, measured at the revision; None if it replaces none.
        problem: why it could not be measured, or empty.
        name: `iris v2`.
    """

    name: str
    after: ColdStart | None
    before: ColdStart | None = None
    problem: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "version": self.name,
            "before": self.before and self.before.to_json(),
            "after": self.after and self.after.to_json(),
            "problem": self.problem,
        }

    def change(self) -> Change:
        """Return it as a line of the review."""
        from turnout.review.changes import MEASURED, Change

        if self.after is None:
            return Change(MEASURED, self.name, f"not measured: {self.problem}")
        text = f"a first call in a fresh process takes {self.after.total_ms:,.0f} ms"
        if self.before is not None:
            text += f"; {self.before.version}, which it replaces, takes {self.before.total_ms:,.0f} ms"
        return Change(MEASURED, self.name, text)


def measure_changed(before: Project, after: Project, replaced: Sequence[Replaced]) -> list[MeasuredStart]:
    """Measure the cold start of each version that is new, has changed files or replaces another one."""
    from turnout.review.agreement import files_differ

    known = {(version.model, version.name) for version in before.manifest.versions}
    predecessors = {(entry.model, entry.after): entry.before for entry in replaced}
    measured = []
    for version in after.manifest.versions:
        key = (version.model, version.name)
        is_changed = key not in known or key in predecessors or files_differ(before, after, *key)
        if not is_changed:
            continue
        name = " ".join(key)
        with passing_remark(f"measuring the cold start of {name} ..."):
            start, problem = measure_one(after, key)
            former = predecessors.get(key, version.name if key in known else "")
            old, _ = measure_one(before, (version.model, former)) if former and start else (None, "")
        measured.append(MeasuredStart(name, start, old, problem))
    return measured


def measure_one(project: Project, key: tuple[str, str]) -> tuple[ColdStart | None, str]:
    """Return a version's cold start, or None and the reason."""
    from turnout.packaging.cold_start import ColdStartError, measure_cold_starts

    if key not in project.artifacts:
        return None, "its model file is not on this machine"
    try:
        return next(measure_cold_starts(project, only={key})), ""
    except ColdStartError as error:
        return None, str(error)
