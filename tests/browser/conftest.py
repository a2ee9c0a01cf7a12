"""Debian's chromium, driven by the playwright package from PyPI, without a downloaded browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
REASON = (
    "chromium is not installed: apt install chromium"
    if CHROMIUM is None
    else "playwright is not installed: make browser"
    if find_spec("playwright") is None
    else ""
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "browser" and REASON:
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser per module, not per session: while playwright runs, its event loop runs in this thread, and no other
    may.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container has no user namespace for chromium's own sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
