"""The choices of a stage as one immutable table, for more models than packed stage variables can hold.

The stage variable `ChoiceTable` contains only the table's name, `prod/<sha256 of the table>`. So a change of any number
of models is still one `UpdateStage`, and a canary overrides the name with that of a table of its own. A table never
changes: its name contains its digest, which every reader checks. A running number would need a counter that two
deployments at once could both advance.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from turnout.protocol.errors import RequestError
from turnout.protocol.naming import variable_name

TABLE_VARIABLE = "ChoiceTable"
"""The stage variable with the table's name. No model's variable has this name: those begin with a lower-case letter."""

TABLES_FOLDER = "choices"
"""The folder of tables, in the stack's bucket and in `.turnout`."""

Choices = Mapping[str, str]
"""Stage variable of a model -> its version."""

FindTable = Callable[[str], Choices]
"""Returns the choices in the table with this name; raises a `TableError`."""

MOST_TABLES = 8
"""Most tables kept in memory: baseline and canary of a few stages, and the ones before them."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}/[0-9a-f]{64}")


class TableError(Exception):
    """A table cannot be read, or is not the one that its name promises."""


def is_table_name(text: str) -> bool:
    """Whether a text is the name of a table: `prod/<64 hex digits>`."""
    return _NAME.fullmatch(text) is not None


def make_table(stage: str, choices: Mapping[str, str]) -> tuple[str, str]:
    """Return the name and the text of a stage's table.

    Args:
        stage: the stage's name.
        choices: model -> version.
    """
    text = json.dumps(dict(choices), separators=(",", ":"), sort_keys=True)
    return f"{stage}/{hashlib.sha256(text.encode()).hexdigest()}", text


def parse_table(name: str, data: bytes) -> dict[str, str]:
    """Return the choices in a table.

    Raises:
        TableError: the data is not the table with this name.
    """
    digest = hashlib.sha256(data).hexdigest()
    if not is_table_name(name) or digest != name.rpartition("/")[2]:
        raise TableError(f"the table {name} is damaged: its sha256 is {digest}")
    return {variable_name(model): version for model, version in json.loads(data).items()}


def table_path(name: str) -> str:
    """Return the path of a table below the folder of tables."""
    return f"{name}.json"


def names_of(*variables: Mapping[str, str]) -> Iterable[str]:
    """Return the names of the tables in stage variables or overrides."""
    return dict.fromkeys(name for of in variables if (name := of.get(TABLE_VARIABLE, "")))


def no_tables(name: str) -> Choices:
    """Reject every table: there is no place with tables."""
    raise TableError(f"the table {name} cannot be read: no location of tables is known")


class ChoiceTables:
    """Reads tables by name and keeps the ones used most recently, for several threads.

    A table that was read once is read no more, so requests that still arrive with an earlier name are answered even if
    the place of the tables cannot be reached.

    Args:
        fetch: returns the content of a table by its name; raises a `TableError`.
        most: how many tables are kept.
    """

    def __init__(self, fetch: Callable[[str], bytes], most: int = MOST_TABLES) -> None:
        self._fetch = fetch
        self._most = most
        self._kept: OrderedDict[str, Choices] = OrderedDict()
        self._lock = Lock()

    def __call__(self, name: str) -> Choices:
        """Return the choices in a table.

        Raises:
            TableError: it cannot be read.
        """
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        choices = parse_table(name, self._fetch(name))
        with self._lock:
            self._kept[name] = choices
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return choices


def find_known(tables: Mapping[str, str]) -> FindTable:
    """Return what finds the choices in tables whose texts are known, by name."""

    def fetch(name: str) -> bytes:
        if name not in tables:
            raise TableError(f"the table {name} is unknown")
        return tables[name].encode()

    return ChoiceTables(fetch, max(MOST_TABLES, len(tables)))


def open_folder(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> FindTable:
    """Return what finds a table in a folder.

    Args:
        folder: the folder of tables.
        known: texts of tables that need not be read, by name.
    """

    def fetch(name: str) -> bytes:
        if name in known:
            return known[name].encode()
        if not is_table_name(name):
            raise TableError(f"{name[:80]!r} is not the name of a table")
        try:
            return (folder / table_path(name)).read_bytes()
        except OSError as error:
            raise TableError(f"the table {table_path(name)} cannot be read: {error.strerror}") from error

    return ChoiceTables(fetch, max(MOST_TABLES, len(known)))


def refuse_unreadable(error: TableError) -> RequestError:
    """Return the response to a request whose stage has a table that cannot be read."""
    return RequestError(
        "CHOICES_UNREADABLE",
        f"cannot read which versions the stage serves: {error}. Try again later. If it persists, run `pulumi up`, or "
        "restart `turnout serve`: both write the stage's table again.",
    )
