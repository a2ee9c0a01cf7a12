"""Garbage collection, paused."""

from __future__ import annotations

import gc

import pytest

from turnout.system.collections import without_collections


def fail_within() -> None:
    with without_collections():
        assert not gc.isenabled()
        with without_collections():
            pass
        assert not gc.isenabled()
        raise ValueError("wrong")


def test_nothing_is_collected_until_the_block_ends() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="wrong"):
        fail_within()
    assert gc.isenabled()
