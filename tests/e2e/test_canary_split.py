"""A canary's share on `turnout serve` with two workers: ten thousand requests of a real client at each of four shares.

Shares of 0% and 100% involve no chance: a thousand requests are enough.

The bounds are wider than those of 99%, so that the suite fails by chance once in ten million runs, not once in 25.
docs/canary.md shows the observed values next to the 99% bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders.binomial import ODDS, band
from tests.builders.canary_commands import Commands
from tests.builders.limits_project import draw, write_limits_project
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("split")
    write_limits_project(folder, "  prod: {serve: {step: v1, other: v1}}  # everybody\n")
    with running_server(folder, "--no-access-log", "--workers", "2") as running:
        yield running


def test_the_bounds_are_those_of_the_binomial_distribution() -> None:
    """Compared with scipy.stats.binom.interval(0.99, ...)."""
    assert band(10_000, 0.1, 0.01) == (923, 1078)
    assert band(10_000, 0.5, 0.01) == (4871, 5129)
    assert band(10_000, 0.01, 0.01) == (75, 127)
    assert band(10_000, 1.0, 0.01) == (10_000, 10_000)


@pytest.mark.parametrize("percent", [0, 1, 10, 50, 99.9, 100])
def test_requests_are_split_by_the_configured_percentage(
    percent: float, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = Commands(server, capsys)
    before = canary.text()
    canary("start", "prod", "--model", "step", "--to", "v2", "--percent", str(percent), *canary.now)
    requests = 10_000 if 0 < percent < 100 else 1_000  # all or none needs no statistics
    seen = draw(server.port, "prod", requests)
    assert seen.keys() <= {("v1", "false"), ("v2", "true")}
    low, high = band(requests, percent / 100, ODDS)
    assert low <= seen["v2", "true"] <= high

    def counted() -> bool:
        """Check that the counters, shortly after the last answer, agree with what the callers saw."""
        shares = canary.status("prod")["shares"]
        return (shares["baseline"]["requests"], shares["canary"]["requests"]) == (
            seen["v1", "false"],
            seen["v2", "true"],
        )

    wait_until(counted, "the counters say so too")
    canary("rollback", "prod", *canary.now)
    assert canary.text() == before
