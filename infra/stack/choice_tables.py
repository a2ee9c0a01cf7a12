"""Tables of choices in the stack's bucket: which functions read them, and which old ones are deleted.

A table is an object that never changes. A stage's variables name it, so it exists before the stage is changed and stays
for a while afterwards: requests that arrived with the former name, asynchronous ones among them, still need it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from turnout.plan.values import Function, Plan
from turnout.protocol.routing.choice_tables import TABLES_FOLDER, table_path

from ..naming import Place
from ..policies import Statement, allow

CHOICES_VARIABLE = "TURNOUT_CHOICES"
"""The routers' environment variable with the folder of tables (router_lambda/tables.py)."""

KEPT_AFTER_USE = timedelta(days=30)
"""How long a table stays after another one has replaced it: longer than an asynchronous request can wait. A queue keeps
messages for 14 days at most. Source: Amazon SQS Developer Guide, "Message quotas".
"""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One object below the folder of tables.

    Args:
        key: `choices/prod/<sha256>.json`.
        written: when it was last written.
    """

    key: str
    written: datetime


def table_key(name: str) -> str:
    """Return the key of a table's object."""
    return f"{TABLES_FOLDER}/{table_path(name)}"


def tables_location(place: Place) -> str:
    """Return the folder of tables, for the routers."""
    return f"s3://{place.bucket}/{TABLES_FOLDER}"


def reads_tables(plan: Plan, function: Function) -> bool:
    """Whether a function reads tables: the general router, and routers of graphs, which choose versions of others."""
    if not plan.tables:
        return False
    graphs = {graph.model for graph in plan.graphs}
    return function.kind == "general_router" or (function.kind == "router" and function.model in graphs)


def allow_reading_tables(plan: Plan, function: Function, place: Place, kms_key_arn: str) -> list[Statement]:
    """Return the permissions of a function to read tables; none if it reads none."""
    if not reads_tables(plan, function):
        return []
    read = [allow(["s3:GetObject"], [f"{place.bucket_arn(place.bucket)}/{TABLES_FOLDER}/*"])]
    return [*read, allow(["kms:Decrypt"], [kms_key_arn])] if kms_key_arn else read


def find_old_tables(stored: Iterable[StoredTable], served: Collection[str], now: datetime) -> list[str]:
    """Return the keys of tables that no request needs.

    Args:
        stored: all objects below the folder of tables.
        served: keys of the tables that stages name now.
        now: the present time.
    """
    by_stage: dict[str, list[StoredTable]] = {}
    for table in stored:
        by_stage.setdefault(table.key.rpartition("/")[0], []).append(table)
    old: list[str] = []
    for tables in by_stage.values():
        by_age = sorted(tables, key=lambda table: table.written)
        # Every command writes its table again, so a table was replaced, at the earliest, when the next one was written.
        for table, following in pairwise(by_age):
            if table.key not in served and now - following.written > KEPT_AFTER_USE:
                old.append(table.key)
    return old
