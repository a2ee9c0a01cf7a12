"""The report of a conversion: conversion.json for programs, conversion.md for users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from turnout.conversion.proof import CAUSES, Proof

JSON_FILE = "conversion.json"
PAGE_FILE = "conversion.md"

ROWS_OF_PAGE = 5
VALUES_OF_ROW = 400
"""Most characters of a row on a terminal."""


def render_report(title: str, source: Mapping[str, Any], proof: Proof, notes: tuple[str, ...]) -> str:
    """Return the page next to the artifact."""
    lines = [f"# {title}: conversion", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in source.items()]
    lines += ["", "## Proof", "", *summary_lines(proof), ""]
    lines += ["| rows | drawn for |", "|--:|---|"]
    lines += [f"| {rows:,} | {name} |" for name, rows in proof.groups.items()]
    lines += [
        "",
        "| output | values | largest absolute difference | largest relative | differing |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in proof.outputs:
        worst = f"{row.worst_absolute:.2g} | {row.worst_relative:.2g}"
        lines.append(f"| {_cell(row.name)} | {row.values:,} | {worst} | {row.differing:,} |")
    if proof.refused:
        lines += ["", "Not compared, because the original itself refuses these values:", ""]
        lines += [f"- {name}: {_cell(reason)}" for name, reason in proof.refused.items()]
    if notes:
        lines += ["", "## Notes", "", *(f"- {_cell(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def summary_lines(proof: Proof) -> list[str]:
    """Return sentences about what was compared."""
    tolerance = proof.tolerance
    sizes = ", ".join(f"{size:,}" for size in proof.batches[:-1])
    result = "all agree" if proof.holds else _differ(proof.disagreeing_rows)
    within = f"{tolerance.absolute:g} + {tolerance.relative:g} * |value|"
    return [
        f"Compared {proof.rows:,} rows with the original, in batches of {sizes} and {proof.batches[-1]:,}: {result}.",
        f"Labels and texts must be equal, floats within {within}. Largest difference: {proof.worst:.2g}.",
    ]


def _differ(count: int) -> str:
    return "1 row differs" if count == 1 else f"{count:,} rows differ"


def difference_lines(proof: Proof, causes: Iterable[str] = CAUSES) -> Iterator[str]:
    """Yield the rows that differ, and the usual reason."""
    for row in proof.disagreements[:ROWS_OF_PAGE]:
        yield f"row {row.row} ({row.group}; batch of {row.batch:,}): {_clip(row.inputs)}"
        yield f"    original: {_clip(row.expected)}"
        yield f"    graph:    {_clip(row.got)}"
    more = proof.disagreeing_rows - min(ROWS_OF_PAGE, len(proof.disagreements))
    if more > 0:
        yield f"... and {more:,} more rows"
    yield "Usual causes:"
    for cause in causes:
        yield f"    - {cause}"


def _clip(values: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in values.items())
    return text if len(text) <= VALUES_OF_ROW else f"{text[:VALUES_OF_ROW]}..."
