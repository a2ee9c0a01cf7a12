"""The command: its options, its handling of signals, and the table of results."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from turnout.aws_client import make_aws_client
from turnout.client.connection import ApiAnswer, ApiConnection
from turnout.protocol.naming import function_prefix

from ..program import deploy
from .check import AwsCheck, CheckRow
from .leftovers import undo_logs_role
from .sample import PLATFORM, SampleProject
from .stack import Deployed, ThrowawayStack

HOME = Path(".turnout", "aws-check")

DESCRIPTION = """\
Deploys the sample to a throwaway stack of your AWS account, calls every route, starts and promotes both kinds of
canary, checks logs, alarms and the guard rail, prints what held, and destroys everything, also when it is interrupted.
Takes about ten minutes and costs a few cents. Needs the `pulumi` command and credentials that boto3 finds.
"""


class InterruptedCheckError(BaseException):
    """SIGINT or SIGTERM arrived. No step treats it as its own failure."""


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 if every step held, 1 if one did not, 2 for bad usage, 130 or 143 after a signal.
    """
    parser = argparse.ArgumentParser(
        "aws-check", description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--region", default=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))
    parser.add_argument("--clean", action="store_true", help="destroy what killed checks left behind, and exit")
    options = parser.parse_args(arguments)
    if not options.region:
        parser.error("no region: give --region, or set AWS_REGION")
    if options.clean:
        return clean(HOME)
    left = unfinished(HOME)
    if left:
        parser.error(f"an earlier check has left {', '.join(path.name for path in left)}: run aws-check --clean first")
    name = f"check{secrets.token_hex(3)}"
    home = (HOME / name).absolute()
    project = SampleProject(home / "project")
    client = make_clients(options.region)
    settings = {"turnout:log_retention_days": "1"}

    def program() -> None:
        deploy(project.folder)

    stack = ThrowawayStack(home, name, options.region, program, settings=settings)
    say(f"Stack {name} in {options.region}. If this is killed: aws-check --clean")
    return run(AwsCheck(project, stack, name, call_aws, client, begin=lambda step: say(f"{step} ...")))


def run(check: AwsCheck) -> int:
    """Run a check with signals held, and print its table.

    Returns:
        The exit code.
    """
    failure: BaseException | None = None
    with held_signals() as signals:
        # No exception leaves this function, and later signals raise none: the stack is always destroyed.
        try:
            signals.armed = True
            check.try_steps()
            signals.armed = False
        except BaseException as error:
            signals.armed = False
            failure = error
        held = check.finish()
    print(render_table(check.rows))  # noqa: T201 - the result
    if failure is not None and not isinstance(failure, InterruptedCheckError):
        raise failure
    if signals.first is not None:
        return 128 + signals.first
    return 0 if held else 1


class HeldSignals:
    """Holds SIGINT and SIGTERM: the first one ends the steps if it arrives while they run; all others are ignored.

    Attributes:
        armed: whether a signal raises an exception; at most one signal ever does.
        first: the number of the first signal that arrived.
    """

    def __init__(self) -> None:
        self.armed = False
        self.first: int | None = None

    def handle(self, number: int, _: object) -> None:
        """Record the first signal and, while armed, raise InterruptedCheckError. Runs in the main thread."""
        self.first = number if self.first is None else self.first
        say(f"{signal.Signals(number).name}: destroying the stack. If this is killed: aws-check --clean")
        if self.armed:
            self.armed = False
            raise InterruptedCheckError(signal.Signals(number).name)


@contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Hold SIGINT and SIGTERM for the duration of a block."""
    signals = HeldSignals()
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, signals.handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def clean(
    home: Path,
    opened: Callable[[Path], ThrowawayStack] | None = None,
    clients: Callable[[str], Callable[[str], Any]] | None = None,
) -> int:
    """Destroy what killed checks have left behind.

    Returns:
        The exit code.
    """
    code = 0
    for folder in unfinished(home):
        say(f"Destroying stack {folder.name}.")
        try:
            stack = (opened or open_stack)(folder)
            stack.destroy()
            undo_logs_role((clients or make_clients)(stack.region), function_prefix(PLATFORM, stack.name))
        except Exception as error:
            say(f"Stack {folder.name} cannot be destroyed: {error}")
            code = 1
    return code


def unfinished(home: Path) -> list[Path]:
    """The folders of checks whose stack was not destroyed."""
    return sorted(path.parent for path in home.glob("*/check.json"))


def open_stack(folder: Path) -> ThrowawayStack:
    """Open the stack of a killed check; it deploys nothing."""
    fields = json.loads((folder / "check.json").read_bytes())
    return ThrowawayStack(folder.absolute(), fields["stack"], fields["region"], lambda: None)


def make_clients(region: str) -> Callable[[str], Any]:
    """Return boto3's clients of a region, one for each service."""

    @cache
    def client(service: str) -> Any:
        return make_aws_client(service, region_name=region)

    return client


def call_aws(deployed: Deployed, stage: str, method: str, path: str, body: bytes, *, with_key: bool) -> ApiAnswer:
    """Send one request over its own connection.

    API Gateway chooses a canary's share per request, not per connection.
    """
    connection = ApiConnection(deployed.endpoints[stage])
    try:
        return connection.request(method, path, body, {"x-api-key": deployed.keys[stage]} if with_key else {})
    finally:
        connection.close()


def render_table(rows: Sequence[CheckRow]) -> str:
    """The results as a table with one line per step."""
    wide = max((len(row.step) for row in rows), default=0)
    lines = [f"{row.step:{wide}}  {row.result:9}  {row.seconds:6.0f} s  {row.seen}" for row in rows]
    held = sum(row.result == "held" for row in rows)
    return "\n".join(["", *lines, "", f"{held} of {len(rows)} held."])


def say(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
