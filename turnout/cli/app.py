"""All commands under one name; their exceptions become messages and exit codes here."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from turnout import __version__
from turnout.cli.canary import commands as canary
from turnout.cli.commands import (
    add,
    build,
    console,
    init,
    invoke,
    models,
    openapi,
    plan,
    remove,
    replay,
    serve,
    test,
    validate,
)
from turnout.cli.group import Group
from turnout.cli.keys import commands as keys
from turnout.cli.output import CommandError, notify, print_problems
from turnout.cli.requests import commands as requests
from turnout.cli.updates import update
from turnout.problems import ProblemsError


class Commands(Group):
    """The group of commands: their exceptions become sentences and exit codes here, and nowhere else."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own copy of click's Context
        """Run the named command."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except BrokenPipeError:
            # `| head` has read enough. What is still buffered must go somewhere when Python flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if ctx.params.get("debug"):
                notify("".join(traceback.format_exception(error)).rstrip())
                raise typer.Exit(1) from None
            raise typer.Exit(print_error(error)) from None


def print_error(error: Exception) -> int:
    """Print an error to standard error and return the exit code."""
    if isinstance(error, ProblemsError):
        print_problems(error)
        return 2
    if isinstance(error, CommandError):
        notify(f"turnout: {error}")
        return error.code
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        notify(f"turnout: {place}{error.strerror}")
        return 1
    notify(f"turnout: unexpected {type(error).__name__}: {error}\n    Add --debug to see the traceback.")
    return 1


def print_usage_error(error: typer.TyperException) -> int:
    """Print what is wrong with the arguments, escaped, because a shell's `*` may insert any file name."""
    text = io.StringIO()
    show = getattr(error, "show", None)
    if show is not None:
        show(text)
    notify(text.getvalue().rstrip("\n") or f"Error: {error}")
    return error.exit_code


app = typer.Typer(
    name="turnout",
    cls=Commands,
    no_args_is_help=False,  # `Group` prints the help to standard output
    add_completion=True,
    rich_markup_mode=None,  # plain help: importing rich would take half of the 0.2 s that --help is allowed
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def print_version(value: bool) -> None:  # noqa: FBT001  # typer calls it so
    """Print the version and stop, when `--version` is given."""
    if value:
        typer.echo(f"turnout {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 success, 1 failure, 2 bad input or bad usage. Results are printed to standard "
    "output, everything else to standard error. NO_COLOR disables colors."
)
def turnout(
    *,
    version: Annotated[  # `print_version` handles it
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[  # `Commands.invoke` reads it
        bool, typer.Option("--debug", help="Show tracebacks. Accepted anywhere on the command line.")
    ] = False,
) -> None:
    """Serve many ONNX models, each in many versions, behind one HTTP API.

    List them in models.yaml. `turnout serve` runs the API on this machine, with real inference.
    """


for command in (
    init.init,
    validate.validate,
    plan.plan,
    build.build,
    serve.serve,
    console.console,
    invoke.invoke,
    replay.replay,
    add.add,
    update.update,
    remove.remove,
    models.models,
    openapi.openapi,
):
    app.command()(command)
app.command("test")(test.run)  # pytest would collect a function named `test`

app.add_typer(keys.keys)
app.add_typer(canary.canary)
app.add_typer(requests.requests)


def run(arguments: Sequence[str]) -> int:
    """Run the command in the arguments and return its exit code."""
    try:
        code = app(args=arguments, prog_name="turnout", standalone_mode=False)
    except typer.Abort:
        notify("Aborted.")
        return 1
    except typer.TyperException as error:
        return print_usage_error(error)
    return code if isinstance(code, int) else 0
