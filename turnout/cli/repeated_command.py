"""Repeats the running command with other options, so that users can paste the command that an error suggests."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import typer


def repeat_command(context: typer.Context, changes: Mapping[str, Any], *, without: Collection[str] = ()) -> str:
    """Return the running command for a shell.

    Args:
        context: the command's context.
        changes: parameter -> value. Each replaces the given value, or is added if none was given.
        without: parameters to leave out.
    """
    words = context.command_path.split()
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in changes:
            words += _words(parameter, changes[name])
        elif name not in without and _is_given(context, name):
            words += _words(parameter, context.params[name])
    return shlex.join(words)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _words(parameter: Any, value: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        yield str(value)
    elif getattr(parameter, "is_flag", False):
        yield parameter.opts[0]
    else:
        option = min(parameter.opts, key=len)
        for item in value if isinstance(value, list | tuple) else [value]:
            yield from (option, str(item))
