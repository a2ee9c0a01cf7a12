"""Reads usual values of options without typer's validators, which import pydantic: 100 ms of each command.

A value that is not read here (another type, a number out of bounds, a file that cannot be read) goes to typer, which
accepts it or says what is wrong. If a later typer has no attribute `_runtime_param`, all values do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)

_UNUSUAL_PATH_SETTINGS: Mapping[str, Any] = {
    "exists": False,
    "file_okay": True,
    "dir_okay": True,
    "writable": False,
    "resolve_path": False,
    "allow_dash": False,
    "path_type": None,
}
"""The settings of a path that typer checks, with the values that need no check."""


class NotUsualError(Exception):
    """The value goes to typer."""


class QuickValue:
    """Takes the place of typer's `RuntimeParam`.

    Args:
        parameter: the option or argument.
    """

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value in its declared type."""
        described = self._parameter.type_descriptor
        is_multiple = param.multiple or param.nargs == -1
        if value is None:
            return () if is_multiple else None
        try:
            if get_origin(described.annotation) is not list:
                return _read(value, described.annotation, described.parameter_info)
            if isinstance(value, (list, tuple)):
                (of,) = get_args(described.annotation)
                return [_read(item, of, described.parameter_info) for item in value]
        except NotUsualError:
            pass
        parameter = self._parameter
        parameter._runtime_param = None
        own = parameter.get_runtime_param()
        parameter._runtime_param = self
        return own.coerce(value, param=param, ctx=ctx)


def read_quickly(command: Any) -> None:
    """Make a command read its usual values here."""
    for parameter in command.params:
        if getattr(parameter, "_runtime_param", parameter) is None and hasattr(parameter, "type_descriptor"):
            parameter._runtime_param = QuickValue(parameter)


def _read(value: Any, annotation: Any, settings: Any) -> Any:
    if settings.parser is not None:
        try:
            return settings.parser(value)
        except Exception:
            raise NotUsualError from None  # typer calls it again and reports the error
    read = _READERS.get(annotation)
    if read is not None:
        return read(value, settings)
    if isinstance(annotation, type) and issubclass(annotation, Enum) and type(value) is annotation:
        return value
    raise NotUsualError


def _read_text(value: Any, settings: Any) -> str:
    if type(value) is not str or settings.path_type is not None:
        raise NotUsualError
    return value


def _read_number(value: Any, settings: Any, of: type, spelling: re.Pattern[str]) -> Any:
    if type(value) is str and spelling.fullmatch(value):
        value = of(value)
    is_within = type(value) is of and (settings.min is None or value >= settings.min)
    if not is_within or settings.clamp or (settings.max is not None and value > settings.max):
        raise NotUsualError
    return value


def _read_path(value: Any, settings: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise NotUsualError
    if any(getattr(settings, name) != usual for name, usual in _UNUSUAL_PATH_SETTINGS.items()):
        raise NotUsualError
    if os.path.exists(value) and not os.access(value, os.R_OK):  # noqa: PTH110 - as typer asks
        raise NotUsualError
    return Path(value)


_READERS: Mapping[Any, Callable[[Any, Any], Any]] = {
    str: _read_text,
    int: lambda value, settings: _read_number(value, settings, int, _INTEGER),
    float: lambda value, settings: _read_number(value, settings, float, _NUMBER),
    Path: _read_path,
}
