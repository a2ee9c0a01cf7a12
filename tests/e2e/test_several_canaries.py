"""Several canaries at once on one stage: each model has its own share, verdict, promotion and rollback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.builders.binomial import ODDS, band
from tests.builders.canary_commands import Commands
from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until

STAGES = ("apart", "moved", "runs", "joined")
MODELS = ("echo", "mute", "dumb")
ROUTED = "  {name}: {{serve: {{echo: v1, dumb: v1}}, weights: {{mute: {{v1: 100}}}}}}  # {name}\n"
MANIFEST = f"""\
platform: shop
models:
{"".join(f"  {name}: {{versions: {{v1: {{artifact: a.onnx}}, v2: {{artifact: a.onnx}}}}}}{chr(10)}" for name in MODELS)}
defaults:
  canary: {{bake_minutes: 0.01, confidence: 0.999}}
stages:
{"".join(ROUTED.format(name=name) for name in STAGES)}"""
BODY = {"instances": [[1, 2, 3, 4]]}
DRAWS = 800


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("canaries")
    write_identity(folder / "a.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    with running_server(folder, "--no-access-log", "--workers", "2") as server:
        yield server


@pytest.fixture
def canary(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capsys)


def answers(canary: Commands, stage: str, model: str, requests: int = DRAWS) -> Counter[str]:
    """Version -> answers."""
    with canary.server.client() as client:
        sent = (client.post(f"/{stage}/models/{model}/inference", BODY) for _ in range(requests))
        return Counter(answer.headers["x-turnout-version"] for answer in sent)


def assert_share(canary: Commands, stage: str, model: str, percent: float) -> None:
    """Assert that the canary's version answers a plausible share of requests; it fails once in ten million runs."""
    low, high = band(DRAWS, percent / 100, ODDS)
    assert low <= answers(canary, stage, model)["v2"] <= high


def canaries(canary: Commands, stage: str) -> dict[str, tuple[float, bool, str]]:
    """Model -> share, whether it is routed, verdict."""
    listed = canary.status(stage)["canaries"]
    return {entry["model"]: (entry["percent"], entry["routed"], entry["verdict"]) for entry in listed}


def counted(canary: Commands, stage: str) -> dict[str, int]:
    """Return model -> requests in both shares of its canary since it started."""
    return {
        entry["model"]: sum(share["requests"] for share in entry["shares"].values())
        for entry in canary.status(stage)["canaries"]
    }


def test_each_model_has_its_own_share_and_ends_independently(canary: Commands) -> None:
    before = canary.text()
    canary("start", "apart", "--model", "echo", "--to", "v2", "--percent", "20", *canary.now)
    said = canary("start", "apart", "--model", "mute", "--to", "v2", "--percent", "60", *canary.now)
    assert said.startswith("Started routed canary on apart: mute v2 gets 60% of requests to mute (baseline v1).\n")
    assert "API Gateway has one percentage" in said
    assert "    routed_canaries" not in before
    assert_share(canary, "apart", "echo", 20)
    assert_share(canary, "apart", "mute", 60)
    status = canary.status("apart")
    assert status["warnings"] == []
    wait_until(lambda: counted(canary, "apart") == {"echo": DRAWS, "mute": DRAWS}, "both are counted by themselves")
    assert [entry["since"] for entry in status["canaries"]] == [rollout["time"] for rollout in canary.history("apart")]
    text = canary("status", "apart", *canary.endpoint)
    assert "mute   v1        v2      60% (routed)" in text
    assert max(map(len, text.splitlines())) <= 80

    # One is promoted, and the other goes on with all that was seen of it.
    said = canary("promote", "apart", "--model", "mute", *canary.now)
    assert said.startswith("Promoted: apart serves mute v2 to all requests.\n")
    assert answers(canary, "apart", "mute", 40) == {"v2": 40}
    assert_share(canary, "apart", "echo", 20)
    wait_until(lambda: counted(canary, "apart") == {"echo": 2 * DRAWS}, "it is observed since its own start")

    # The other is rolled back, while a third one goes on.
    canary("start", "apart", "--model", "mute", "--to", "v1", "--percent", "30", *canary.now)
    canary("rollback", "apart", "--model", "echo", *canary.now)
    assert answers(canary, "apart", "echo", 40) == {"v1": 40}
    assert canaries(canary, "apart")["mute"][:2] == (30.0, True)
    low, high = band(DRAWS, 0.3, ODDS)
    assert low <= answers(canary, "apart", "mute")["v1"] <= high
    canary("rollback", "apart", *canary.now)  # the only one
    assert canary.status("apart")["warnings"] == []
    canary("rollback", "apart", "--to-previous", "--model", "mute", *canary.now)
    assert answers(canary, "apart", "mute", 40) == {"v1": 40}
    assert canary.text() == before


def test_joined_model_with_another_share_leaves_the_stages_canary(canary: Commands) -> None:
    canary("start", "moved", "--model", "echo", "--to", "v2", "--percent", "10", *canary.now)
    assert "10% of requests" in canary("start", "moved", "--model", "mute", "--to", "v2", *canary.now)
    assert canaries(canary, "moved") == {"echo": (10, False, "inconclusive"), "mute": (10, False, "inconclusive")}
    said = canary("set", "moved", "--model", "mute", "--percent", "50", *canary.now)
    assert said.startswith("Updated routed canary on moved: mute v2 gets 50% of requests to mute")
    assert canaries(canary, "moved") == {"echo": (10, False, "inconclusive"), "mute": (50, True, "inconclusive")}
    assert_share(canary, "moved", "mute", 50)
    assert_share(canary, "moved", "echo", 10)
    assert canary.status("moved")["warnings"] == []
    canary("promote", "moved", *canary.now)
    assert answers(canary, "moved", "echo", 40) == {"v2": 40}
    assert canaries(canary, "moved").keys() == {"mute"}
    canary("set", "moved", "--percent", "0", *canary.now)  # the only one
    assert answers(canary, "moved", "mute", 40) == {"v1": 40}
    canary("rollback", "moved", *canary.now)


def test_run_of_one_model_continues_while_others_change(canary: Commands) -> None:
    canary("start", "runs", "--model", "mute", "--to", "v2", "--percent", "50", "--routed", *canary.now)
    run = ("run", "runs", "--model", "mute", "--steps", "50,75", "--bake", "100s", "--once", *canary.endpoint)
    assert "continues at 50%" in canary(*run)
    canary("start", "runs", "--model", "echo", "--to", "v2", "--percent", "40", *canary.now)
    canary("set", "runs", "--model", "echo", "--percent", "30", *canary.now)
    answers(canary, "runs", "mute", 100)
    wait_until(lambda: counted(canary, "runs") == {"echo": 0, "mute": 100}, "the run's requests are counted")
    assert "continues at 50%" in canary(*run)
    # One look of a schedule is at each canary of the stage.
    said = canary("run", "runs", "--bake", "100s", "--once", *canary.endpoint)
    assert ("continues at 30%" in said, "continues at 50%" in said) == (True, True)
    moves = [(rollout["action"], *rollout["to"]) for rollout in canary.history("runs")]
    assert moves[:4] == [("start", "mute"), ("set", "mute"), ("start", "echo"), ("set", "echo")]
    assert moves[4:] == [("set", "echo"), ("set", "mute")]  # runs with other settings than before begin anew
    assert canary.status("runs")["warnings"] == []
    canary("rollback", "runs", *canary.now)
    assert "continues at 50%" in canary("run", "runs", "--model", "mute", "--bake", "100s", "--once", *canary.endpoint)
    canary("promote", "runs", "--model", "mute", *canary.now)
    assert "No canary of mute on runs." in canary(*run)


def test_undeployed_router_is_reported_with_both_remedies(canary: Commands) -> None:
    before = canary.text()
    canary("start", "joined", "--model", "echo", "--to", "v2", "--percent", "10", *canary.now)
    started = canary.text()
    said = canary("start", "joined", "--model", "dumb", "--to", "v2", "--percent", "25", *canary.now, code=2)
    assert "shop-local_dumb_router:live is not deployed yet" in said
    assert "Omit --now" in said
    assert canary.text() == started
    for arguments, sentence in (
        (("promote", "joined", "--model", "dumb"), "the canary of joined does not serve dumb"),
        (("start", "joined", "--routed"), "--routed needs a model"),
        (("start", "joined", "--routed", "--model", "echo", "--to", "v2"), "already has a canary"),
        (("start", "joined", "--routed", "--model", "mute", "--to", "v1"), "already serves mute v1"),
    ):
        assert sentence in canary(*arguments, code=2)
    canary("rollback", "joined", *canary.now)
    assert canary.text() == before
