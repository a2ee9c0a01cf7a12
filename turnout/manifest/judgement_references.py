"""What the keys of a canary's judgement say of each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from turnout.manifest.schema import Finding
from turnout.manifest.tree import Tree, mapping, sequence, stages_of
from turnout.yaml_text.reader import KeyPath

STRATEGY_OF = {"steps": "canary", "step_percent": "linear"}
"""Keys that one strategy has and no other."""


def check_judgements(tree: Tree) -> Iterator[Finding]:
    """All that is wrong within `defaults.canary` and within the stages' canaries."""
    defaults = mapping(mapping(tree.get("defaults")).get("canary"))
    yield from _check(("defaults", "canary"), defaults, defaults.get("strategy", "canary"))
    for stage, body in stages_of(tree).items():
        canary = mapping(mapping(body).get("canary"))
        strategy = canary.get("strategy", defaults.get("strategy", "canary"))
        yield from _check(("stages", stage, "canary"), canary, strategy)


def _check(path: KeyPath, judgement: dict[str, Any], strategy: Any) -> Iterator[Finding]:
    for key, wanted in STRATEGY_OF.items():
        if key in judgement and isinstance(strategy, str) and strategy != wanted:
            message = f"is for `strategy: {wanted}`, and the strategy is {strategy}"
            yield Finding((*path, key), message, "Delete it, or name the other strategy.")
    steps = sequence(judgement.get("steps"))
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if all(isinstance(step, int | float) for step in (before, after)) and after <= before:
            yield Finding((*path, "steps", index), f"must be more than the step before, {before:g}, got {after:g}")
