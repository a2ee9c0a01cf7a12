"""All commands under one name; their exceptions become messages and exit codes here."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from turnout import __version__
from turnout.cli.group import Group
from turnout.cli.output import CommandError, notify, print_problems
from turnout.problems import ProblemsError

COMMANDS: Mapping[str, str] = {
    "init": "commands.init.init",
    "validate": "commands.validate.validate",
    "plan": "commands.plan.plan",
    "build": "commands.build.build",
    "serve": "commands.serve.serve",
    "console": "commands.console.console",
    "invoke": "commands.invoke.invoke",
    "replay": "commands.replay.replay",
    "add": "commands.add.add",
    "update": "updates.update.update",
    "remove": "commands.remove.remove",
    "models": "commands.models.models",
    "openapi": "commands.openapi.openapi",
    "test": "commands.test.run",
    "keys": "keys.commands.keys",
    "canary": "canary.commands.canary",
    "requests": "requests.commands.requests",
}
"""Each command's function or group, within this folder, in the order of the help. Only the named one is imported."""


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
            code = code_of_signal(error)
            if code is not None:
                raise typer.Exit(code) from None
            if ctx.params.get("debug"):
                notify("".join(traceback.format_exception(error)).rstrip())
                raise typer.Exit(1) from None
            raise typer.Exit(print_error(error)) from None


def code_of_signal(error: BaseException | None) -> int | None:
    """Return the exit code if a signal during an import caused the error, else None.

    The import of a C extension turns a signal's KeyboardInterrupt or SystemExit into an ImportError or SystemError.
    """
    if not isinstance(error, ImportError | SystemError):
        return None
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return 130
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            return error.code
        error = error.__cause__ or error.__context__
    return None


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


def print_version(value: bool) -> None:  # noqa: FBT001  # typer calls it so
    """Print the version and stop, when `--version` is given."""
    if value:
        typer.echo(f"turnout {__version__}")
        raise typer.Exit


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


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the group with these commands."""
    app = typer.Typer(
        name="turnout",
        cls=Commands,
        no_args_is_help=False,  # `Group` prints the help to standard output
        add_completion=True,
        rich_markup_mode=None,  # plain help: importing rich would take half of the 0.2 s that --help is allowed
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )
    app.callback(
        epilog="Exit codes: 0 success, 1 failure, 2 bad input or bad usage. Results are printed to standard "
        "output, everything else to standard error. NO_COLOR disables colors."
    )(turnout)
    for name in names:
        module, _, attribute = COMMANDS[name].rpartition(".")
        command = getattr(importlib.import_module(f"turnout.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    return app


def find_named(arguments: Sequence[str]) -> Iterable[str]:
    """Return the name of the command in the arguments; all names if a message or a completion may list them."""
    first = next((word for word in arguments if not word.startswith("-")), "")
    return [first] if first in COMMANDS and "_TURNOUT_COMPLETE" not in os.environ else COMMANDS


def run(arguments: Sequence[str]) -> int:
    """Run the command in the arguments and return its exit code."""
    try:
        code = make_app(find_named(arguments))(args=arguments, prog_name="turnout", standalone_mode=False)
    except typer.Abort:
        notify("Aborted.")
        return 1
    except typer.TyperException as error:
        return print_usage_error(error)
    return code if isinstance(code, int) else 0
