"""Keeps tables of choices in `.turnout/choices`, where the stack's bucket has them on AWS.

`turnout serve` writes the tables of models.yaml there, and a canary command those of its change before it changes the
stage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from turnout.protocol.routing.choice_tables import TABLES_FOLDER, TableError, parse_table, table_path
from turnout.system.files import write_whole

KEPT_TABLES = 50
"""How many tables of a stage stay, those written last."""


def find_tables_folder(cache: Path) -> Path:
    """Return the folder of tables in a project's `.turnout`."""
    return cache / TABLES_FOLDER


def store_table(folder: Path, name: str, text: str) -> None:
    """Write a table, and delete the oldest ones of its stage.

    Raises:
        TableError: the text is not the table with this name.
        OSError: the folder cannot be written to.
    """
    parse_table(name, text.encode())
    path = folder / table_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    by_age = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for old in by_age[KEPT_TABLES:]:
        old.unlink(missing_ok=True)


def store_tables(folder: Path, tables: Mapping[str, str]) -> None:
    """Write the tables of a plan that are not there yet; a folder that cannot be written to is left as it is."""
    for name, text in tables.items():
        path = folder / table_path(name)
        try:
            if path.exists():
                os.utime(path)
            else:
                store_table(folder, name, text)
        except (OSError, TableError):
            return
