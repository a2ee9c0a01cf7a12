"""Models that were trained and converted in the converters' real environments, each kind once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from turnout.conversion.environments import environment_folder, find_environment
from turnout.conversion.errors import ConversionError
from turnout.conversion.opsets import find_opsets

TRAIN = Path(__file__).with_name("train.py")

LARGE = {"torch": "TURNOUT_TEST_TORCH"}
"""Environments of gigabytes -> the variable that lets the tests install them. Where they exist, the tests use them."""

Trained = Callable[[str], Mapping[str, Mapping[str, Any]]]


def environment(name: str) -> Path:
    """Return the Python of a converter's environment; skip the test if its packages cannot be installed.

    A run that asks for a large environment fails without it: a job that skips its only tests would pass.
    """
    if name in LARGE and not os.environ.get(LARGE[name]) and not environment_folder(name).exists():
        pytest.skip(f"the environment {name} takes gigabytes: {LARGE[name]}=1 installs it")
    try:
        return find_environment(name, lambda _: None)
    except ConversionError as error:
        if name in LARGE and os.environ.get(LARGE[name]):
            raise
        pytest.skip(f"{error}: {error.hint}")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Kind -> model -> the result of its converter, and the folder `out`."""

    @cache
    def train(kind: str) -> Mapping[str, Mapping[str, Any]]:
        folder = tmp_path_factory.mktemp(kind)
        done = subprocess.run(
            [str(environment(kind)), "-B", str(TRAIN), kind, str(folder), json.dumps(dict(find_opsets()))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"model"')]
        return {row["model"]: row for row in rows}

    return train
