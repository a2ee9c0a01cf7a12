"""Summarizes the results of the peers' benchmark for docs/performance.md.

Reads the JSON lines written by a run. Writes `docs/performance.json` (medians over repeats), `docs/performance.svg`,
and the tables between the markers in docs/performance.md.

    python benchmarks/plot.py RESULTS.jsonl [--ours turnout-2] [--docs docs]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
COLOURS = ("#1b6ca8", "#f2a541", "#7a9e7e", "#b5504b", "#8a6fa8", "#6b6b6b")
PACKAGES = ("onnxruntime", "numpy", "orjson", "pysimdjson", "uvloop", "httptools")


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    loads = [record for record in results if record["kind"] == "load"]
    peers = list(dict.fromkeys(load["peer"] for load in loads))
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for load in loads:
        name = f"{load['model']} {load['payload']}"
        cell = cells.setdefault(name, {}).setdefault(str(load["concurrency"]), {})
        cell.setdefault(load["peer"], []).append(load)
    for by_clients in cells.values():
        for by_peer in by_clients.values():
            for peer, records in by_peer.items():
                by_peer[peer] = measured(records)
    starts = {}
    for peer in peers:
        mine = [record for record in results if record["kind"] == "start" and record["peer"] == peer]
        if mine:
            first = next((start for start in mine if "pss_after_mb" in start), {})
            starts[peer] = {
                "first_answer_s": round(statistics.median(start["seconds"] for start in mine), 2),
                "pss_mb": round(first.get("pss_after_mb", 0)),
            }
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "peers": peers,
        "starts": starts,
        "cells": cells,
    }


def measured(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the repeats; `spread` is the distance between the extremes."""
    rates = [record["requests"] / record["seconds"] for record in records]
    errors = sum(record.get(key, 0) for record in records for key in ("connect", "read", "write", "status", "timeout"))
    rate = statistics.median(rates)
    return {
        "rate": round(rate, 1),
        "p50_ms": round(statistics.median(record["p50_ms"] for record in records), 3),
        "p99_ms": round(statistics.median(record["p99_ms"] for record in records), 2),
        "cpu_us": round(statistics.median(record["cpu"] / max(1, record["requests"]) for record in records) * 1e6),
        "spread": round((max(rates) - min(rates)) / rate, 2),
        "errors": errors,
    }


def tables(summary: dict[str, Any], ours: str) -> str:
    out = []
    for name, by_clients in summary["cells"].items():
        out += [f"**{name}**", "", "| |" + "".join(f" {c} | p99 ms | CPU us |" for c in by_clients) + f" {ours} is |"]
        out += ["|---|" + "--:|" * (3 * len(by_clients) + 1)]
        for peer in summary["peers"]:
            line, ratios = f"| {peer} |", []
            for by_peer in by_clients.values():
                figures = by_peer.get(peer)
                if figures is None:
                    line += " | | |"
                    continue
                line += f" {figures['rate']:,.0f} | {figures['p99_ms']:g} | {figures['cpu_us']:,} |"
                if peer != ours and ours in by_peer:
                    ratios.append(by_peer[ours]["rate"] / figures["rate"])
            out.append(f"{line} {' / '.join(f'{ratio:.1f}' for ratio in ratios)}{' times' if ratios else ''} |")
        out.append("")
    out += ["| | first answer, s | memory, MB PSS |", "|---|--:|--:|"]
    out += [
        f"| {peer} | {start['first_answer_s']:.2f} | {start['pss_mb']} |" for peer, start in summary["starts"].items()
    ]
    return "\n".join(out)


def plot(summary: dict[str, Any]) -> str:
    """Draw a panel per payload with a group of bars per number of clients; heights are requests per second."""
    peers, cells = summary["peers"], summary["cells"]
    bar, gap, height, panel = 11, 14, 120, 190
    groups = max(len(by_clients) for by_clients in cells.values())
    width = 60 + groups * (len(peers) * bar + gap)
    columns = 2
    rows = -(-len(cells) // columns)
    total_width, total_height = columns * width + 20, rows * panel + 40
    box = f"0 0 {total_width} {total_height}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="10">',
        f'<rect width="{total_width}" height="{total_height}" fill="white"/>',
    ]
    for index, (name, by_clients) in enumerate(cells.items()):
        left, top = 20 + index % columns * width, index // columns * panel + 10
        most = max(figures["rate"] for by_peer in by_clients.values() for figures in by_peer.values())
        parts.append(f'<text x="{left}" y="{top + 10}" font-weight="bold">{escape(name)}, requests/s</text>')
        for group, (clients, by_peer) in enumerate(by_clients.items()):
            x = left + group * (len(peers) * bar + gap)
            base = top + 24 + height
            parts.append(f'<text x="{x}" y="{base + 12}">{clients} client{"s" if clients != "1" else ""}</text>')
            for place, peer in enumerate(peers):
                figures = by_peer.get(peer)
                if figures is None:
                    continue
                tall = max(1.0, figures["rate"] / most * height)
                title = f"{peer}, {clients}: {figures['rate']:,.0f}/s, p99 {figures['p99_ms']:g} ms"
                parts.append(
                    f'<rect x="{x + place * bar}" y="{base - tall:.1f}" width="{bar - 2}" height="{tall:.1f}" '
                    f'fill="{COLOURS[place % len(COLOURS)]}"><title>{escape(title)}</title></rect>'
                )
            tallest = max(figures["rate"] for figures in by_peer.values())
            parts.append(f'<text x="{x}" y="{base - tallest / most * height - 3:.1f}">{tallest:,.0f}</text>')
    for place, peer in enumerate(peers):
        x = 20 + place * 110
        parts.append(f'<rect x="{x}" y="{total_height - 20}" width="9" height="9" fill="{COLOURS[place]}"/>')
        parts.append(f'<text x="{x + 13}" y="{total_height - 12}">{escape(peer)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--ours", default="turnout-2")
    parser.add_argument("--docs", type=Path, default=Path(__file__).resolve().parent.parent / "docs")
    arguments = parser.parse_args()
    summary = summarise([json.loads(line) for line in arguments.results.read_text().splitlines()])
    summary["peers"].sort(key=lambda peer: peer != arguments.ours)
    (arguments.docs / "performance.json").write_text(json.dumps(summary, indent=1) + "\n")
    (arguments.docs / "performance.svg").write_text(plot(summary))
    page = arguments.docs / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables(summary, arguments.ours)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
