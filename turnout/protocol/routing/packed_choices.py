"""Packs the choices of thousands of models into a few stage variables: `choice1=iris.v1,digits.v2,...`.

A stage has 100 variables of 512 characters. Which models share a variable depends only on the names, not on the served
versions, so a changed choice changes its own variable, and there only its own entry. A canary's overrides are made in
the same way: they contain the other models of their variable as in the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from turnout.protocol.naming import variable_name
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE, FindTable, no_tables

VARIABLE_CHARACTERS = 512
"""Most characters of a stage variable's value. Source: API Gateway Developer Guide, "Quotas"."""

_PACKED = re.compile(r"choice[1-9][0-9]*")


def is_packed(name: str) -> bool:
    """Whether a stage variable with that name contains packed choices."""
    return _PACKED.fullmatch(name) is not None


def arrange_models(longest: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Return the models of each variable.

    Args:
        longest: model -> length of its longest version's name.
    """
    group: list[str] = []
    size = 0
    for model, characters in longest.items():
        needed = len(model) + 1 + characters
        if group and size + 1 + needed > VARIABLE_CHARACTERS:
            yield tuple(group)
            group, size = [], 0
        size += needed + (1 if group else 0)
        group.append(model)
    if group:
        yield tuple(group)


def pack_choices(choices: Mapping[str, str], groups: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Return the stage variables with the version of each model.

    Args:
        choices: model -> version.
        groups: the result of `arrange_models`.
    """
    return {
        f"choice{number}": ",".join(f"{model}.{choices[model]}" for model in group)
        for number, group in enumerate(groups, 1)
    }


def unpack_choices(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return stage variable of a model -> its version, for the models with packed choices."""
    return _read(_texts(variables))


def find_choice(variables: Mapping[str, str], variable: str, tables: FindTable = no_tables) -> str:
    """Return the version of a model that a stage serves, by the model's own stage variable; empty if none.

    Args:
        variables: the stage's variables.
        variable: the model's own stage variable, which exists only if the choices are neither packed nor in a table.
        tables: finds the stage's table, if it has one.

    Raises:
        TableError: the stage's table cannot be read.
    """
    own = variables.get(variable)
    if own:
        return own
    table = variables.get(TABLE_VARIABLE)
    return (tables(table) if table else unpack_choices(variables)).get(variable, "")


def expand_choices(variables: Mapping[str, str], tables: FindTable = no_tables) -> dict[str, str]:
    """Return the same variables with one for each model instead of the packed ones or the table.

    Raises:
        TableError: the stage's table cannot be read.
    """
    table = variables.get(TABLE_VARIABLE)
    choices = tables(table) if table else unpack_choices(variables)
    others = {name: value for name, value in variables.items() if name != TABLE_VARIABLE and not is_packed(name)}
    return {**choices, **others}


def is_combined(name: str) -> bool:
    """Whether a stage variable contains the choices of several models: packed, or as the name of a table."""
    return name == TABLE_VARIABLE or is_packed(name)


def _texts(variables: Mapping[str, str]) -> tuple[str, ...]:
    names = [name for name in variables if name.startswith("choice") and is_packed(name)]
    return tuple(variables[name] for name in sorted(names, key=lambda name: int(name[6:])))


@lru_cache(maxsize=8)
def _read(texts: tuple[str, ...]) -> Mapping[str, str]:
    """Return the choices in a variable: if a model occurs twice, the first one counts; unreadable parts are skipped."""
    choices: dict[str, str] = {}
    for text in texts:
        for entry in text.split(","):
            model, _, version = entry.partition(".")
            if model and version:
                choices.setdefault(variable_name(model), version)
    return choices
