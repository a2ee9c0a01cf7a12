"""The place from which routers read the tables of choices: a bucket on AWS, a folder on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from turnout.protocol.routing.choice_tables import (
    ChoiceTables,
    FindTable,
    TableError,
    no_tables,
    open_folder,
    table_path,
)

CHOICES = "TURNOUT_CHOICES"
"""The function's environment variable with the folder of tables: `s3://bucket/choices`, or a path."""


def open_tables(environ: Mapping[str, str]) -> FindTable:
    """Return what finds a stage's table; nothing is read before a stage names one.

    Args:
        environ: the function's environment.
    """
    location = environ.get(CHOICES, "")
    if not location:
        return no_tables
    if not location.startswith("s3://"):
        return open_folder(Path(location))
    from turnout.protocol.aws.objects import ObjectError, ObjectFolder

    folder = ObjectFolder(location, environ)

    def fetch(name: str) -> bytes:
        try:
            return folder.read(table_path(name))
        except ObjectError as error:
            raise TableError(str(error)) from error

    return ChoiceTables(fetch)
