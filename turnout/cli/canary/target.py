"""The stage that `turnout canary` works on: the manifest, its record, and the place where the stage is served."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.output import CommandError, notify, sentence_of
from turnout.problems import TurnoutError

if TYPE_CHECKING:
    from turnout.canary.rollout.log import Rollout, RolloutLog
    from turnout.canary.rollout.stage_control import StageTarget
    from turnout.project.project import Project

StageArgument = Annotated[str, typer.Argument(metavar="STAGE", help="The stage's name.")]
EndpointOption = Annotated[
    str,
    typer.Option(
        "--url",
        "--endpoint-url",
        metavar="URL",
        help="Address of the `turnout serve` that serves the stage, such as http://127.0.0.1:8080. [env var: "
        "TURNOUT_URL]",
        show_default=False,
    ),
]
StackOption = Annotated[
    str,
    typer.Option(
        "--stack", metavar="NAME", help="Pulumi stack of a stage that is deployed to AWS.", show_default=False
    ),
]
UNFINISHED = (
    "models.yaml is edited, but the stage is not. Run `turnout canary mend` when the stage can be reached again."
)
WHERE = "Pass --url http://127.0.0.1:8080 for a local gateway, or --stack NAME for a stage on AWS."


def find_target(endpoint_url: str, stack: str, *, uses_environment: bool = True) -> StageTarget | None:
    """Return the place of the stage from the options, else from TURNOUT_URL; None without either."""
    from turnout.canary.rollout.stage_control import StageTarget
    from turnout.client.connection import ApiConnection

    if not endpoint_url and not stack and uses_environment:
        endpoint_url = os.environ.get("TURNOUT_URL", "")
    if not endpoint_url and not stack:
        return None
    if endpoint_url:
        try:
            ApiConnection(endpoint_url).close()
        except ValueError as error:
            raise CommandError(f"--url: {error}.") from error
    return StageTarget(stack or "local", endpoint_url)


def recorded_target(project: Project, rollout: Rollout, named: StageTarget | None) -> StageTarget:
    """Return the place of a recorded rollout's stage, if the user names it or it is a server of this project.

    Anyone who can write to rollouts.jsonl, for example by a pull request, must not be able to choose where commands
    connect to.
    """
    from turnout.canary.rollout.stage_control import StageTarget
    from turnout.system.service_tokens import find_services

    if named is not None:
        return named
    if rollout.endpoint_url and find_services(project.manifest.path.parent, rollout.endpoint_url) is None:
        message = f"rollouts.jsonl names {rollout.endpoint_url}, but no server of this project runs there."
        hint = "If the address is right, pass it: `turnout canary mend --url URL`."
        raise CommandError(message, hint, code=1)
    return StageTarget(rollout.stack, rollout.endpoint_url)


def log_of(manifest: Path) -> RolloutLog:
    """Return the record next to a manifest."""
    from turnout.canary.rollout.log import RolloutLog
    from turnout.project.manifest_file import manifest_path

    return RolloutLog(manifest_path(manifest).resolve().parent)


@contextmanager
def editing_alone(manifest: Path) -> Iterator[None]:
    """Hold the manifest's lock, so that no other command edits it; turn errors into command errors."""
    from turnout.project.manifest_file import editing

    with (
        editing(manifest, lambda: notify("Waiting for another command that edits the manifest.")),
        reported_errors(manifest),
    ):
        yield


@contextmanager
def reported_errors(manifest: Path) -> Iterator[None]:
    """Turn a canary's errors into command errors, with the remedy if a rollout was interrupted."""
    from turnout.canary.observation.source import ObservationError
    from turnout.canary.rollout.stage_control import StageControlError
    from turnout.project.manifest_file import ManifestChangedError

    try:
        yield
    except TurnoutError as error:
        unreached = isinstance(error, ObservationError | StageControlError)
        hint = UNFINISHED if unreached and log_of(manifest).unfinished() else error.hint
        code = 1 if unreached or isinstance(error, ManifestChangedError) else 2
        raise CommandError(sentence_of(error.message), hint, code=code) from error
