"""The blocks of the walkthrough pages do what the pages say: they are run in the project that they make.

`sh` and `python` blocks are run; a `text` block directly after one is its output. A `console` block shows what a test
cannot run: an AWS account, Pulumi's engine, minutes of traffic, a killed command.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.builders.async_project import await_end
from tests.builders.markdown import Block, assert_same_output, read_blocks, run_block, run_in
from tests.builders.running_server import RunningServer, running_server
from turnout.gateway.requests.signing import load_secret
from turnout.manifest.parser import parse_manifest
from turnout.protocol.requests.webhooks import sign_webhook, webhook_secret
from turnout.scaffold.new_project import create_project

ROOT = Path(__file__).resolve().parents[2]
SERVE_OPTIONS: dict[str, tuple[str, ...]] = {
    "canary": (),
    "replay": ("--capture", "capture.jsonl"),
    "deploying": (),
    "production": ("--services", "token"),
    "control-plane": (),
    "browsers": ("--watch",),
    "consumers": ("--watch",),
    "callers": ("--watch",),
    "domains": ("--watch",),
}
"""The options with which each page starts its server."""

WITHOUT_SERVER = ("company", "models", "prices", "pull-requests")
"""Pages whose commands need no server."""

MANIFESTS = ("async", "browsers", "callers", "canary", "consumers", "domains", "graphs", "routing")
"""Pages whose first YAML block has stages, and models unless the project of `turnout init` has them."""


RUN_ELSEWHERE = {
    "async": "below",
    "installing": "tests/e2e/test_wheel.py",
    "pools": "tests/e2e/test_pools.py",
    "runtimes": "tests/e2e/test_runtimes_page.py",
}
"""Pages with commands that other tests run: in an environment of their own, with other models, with another project."""


def blocks_of(page: str) -> list[Block]:
    return read_blocks((ROOT / "docs" / f"{page}.md").read_text())


STATUSES = "200\n200\n403\n"
REPLAY = "VERSION  REQUESTS  P50 MS\niris/v1        50    1.66\n\n98.00% agree: 49 of 50 requests.\n"


@pytest.mark.parametrize(
    ("printed", "on_the_page", "same"),
    [
        (STATUSES, STATUSES, True),
        ("200\n200\n200\n", STATUSES, False),
        (REPLAY.replace("1.66", "20.5"), REPLAY, True),
        (REPLAY.replace("49", "48"), REPLAY, False),
        (REPLAY.replace("98.00%", "97.00%"), REPLAY, False),
        (REPLAY.replace(" 50 ", "  9 "), REPLAY, False),
        ("2031-01-01 10:00:00  5%", "2026-11-30 09:06:13  5%", True),
        ("2026-11-30  25%", "2026-11-30  5%", False),
        ("sha256 0123456789ab", "sha256 a2808a63d958", True),
        ('{"y":[0.9800679,5.5308593e-7]}', '{"y":[0.9800679,5.5308595e-7]}', True),
        ('{"y":[0.9800679,5.5308595e-7]}', '{"y":[0.9700679,5.5308595e-7]}', False),
    ],
)
def test_numbers_of_an_output_are_compared_unless_they_differ_between_runs(
    printed: str, on_the_page: str, same: bool
) -> None:
    if same:
        assert_same_output(printed, on_the_page)
        return
    with pytest.raises(AssertionError):
        assert_same_output(printed, on_the_page)


@pytest.mark.parametrize("page", SERVE_OPTIONS)
def test_blocks_do_what_the_page_says(page: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    create_project(project)
    blocks = [block for block in blocks_of(page) if block.language in {"sh", "python"}]
    assert len(blocks) >= 2
    with running_server(project, *SERVE_OPTIONS[page], cwd=project) as server:
        for block in blocks:
            printed = run_block(block, server)
            if block.output is not None:
                assert_same_output(printed, block.output)


@pytest.mark.parametrize("page", WITHOUT_SERVER)
def test_blocks_without_a_server_do_what_the_page_says(page: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    create_project(project)
    blocks = [block for block in blocks_of(page) if block.language == "sh"]
    assert blocks
    for block in blocks:
        printed = run_in(block, project, {})
        if block.output is not None:
            assert_same_output(printed, block.output)


def test_no_page_has_commands_that_no_test_runs() -> None:
    run = {*SERVE_OPTIONS, *WITHOUT_SERVER, *RUN_ELSEWHERE}
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if any(block.language == "sh" for block in blocks_of(page))} == run
    tests = {place for place in RUN_ELSEWHERE.values() if place != "below"}
    assert all((ROOT / place).is_file() for place in tests)


@pytest.mark.parametrize("page", MANIFESTS)
def test_manifest_on_the_page_is_valid(page: str) -> None:
    block = next(block for block in blocks_of(page) if block.language == "yaml")
    text = block.text
    if not re.search("^models:", text, re.MULTILINE):
        template = (ROOT / "turnout/scaffold/template/models.yaml").read_text()
        text = template[: template.index("stages:")] + text
    if "platform:" not in text:
        text = f"platform: turnout\n{text}"
    assert parse_manifest(text.encode(), path=ROOT / "models.yaml", source=f"docs/{page}.md").stages


class AsyncPage:
    """The blocks of the page on asynchronous requests, with identifiers replaced by those of this run."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._identifiers: dict[str, str] = {}

    def run(self, block: Block) -> None:
        text = re.sub(r"\S+", lambda match: self._known(match[0]), block.text)
        for identifier in re.findall(r"8080/dev/requests/([0-9a-f-]{36})", text):
            await_end(self._server, f"/dev/requests/{identifier}")
        printed = run_block(Block(block.language, text, block.output), self._server)
        if block.output is None:
            return
        if block.output.startswith("HTTP/1.1"):
            self._compare_heads(block.output, printed)
        elif block.output.startswith("{"):
            assert agrees(json.loads(printed), json.loads(block.output)), printed
        else:
            assert printed.strip() == block.output.strip()

    def learn(self, on_the_page: str, identifier: str) -> None:
        self._identifiers[on_the_page] = identifier

    def _known(self, word: str) -> str:
        for on_the_page, identifier in self._identifiers.items():
            word = re.sub(rf"(?<![\w-]){on_the_page}(?![\w-])", identifier, word)
        return word

    def _compare_heads(self, expected: str, printed: str) -> None:
        head = dict(line.partition(" ")[::2] for line in printed.partition("\r\n\r\n")[0].splitlines())
        for name, value in (line.partition(" ")[::2] for line in expected.splitlines()):
            if name == "Location:":
                self.learn(value.rpartition("/")[2], head[name].rpartition("/")[2])
            assert head[name] == self._known(value)


def agrees(printed: object, on_the_page: object) -> bool:
    """Whether a JSON value matches the page's, which leaves out parts of texts (`...`), identifiers and times."""
    if isinstance(printed, dict) and isinstance(on_the_page, dict):
        assert printed.keys() == on_the_page.keys()
        sizes = {"bytes"} if "sha256" in printed else set()  # of an answer whose numbers have more or fewer digits
        return all(agrees(printed[key], on_the_page[key]) for key in printed.keys() - sizes)
    if isinstance(printed, list) and isinstance(on_the_page, list):
        return len(printed) == len(on_the_page) and all(map(agrees, printed, on_the_page))
    if isinstance(printed, str) and isinstance(on_the_page, str):
        return re.fullmatch(".*".join(map(re.escape, masked(on_the_page).split("..."))), masked(printed)) is not None
    return printed == on_the_page


def masked(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return re.sub(r"[0-9a-f-]{32,}|\b[0-9a-f]{4,8}(?=\.\.\.)", "ID", text)


def test_blocks_on_asynchronous_requests_do_what_the_page_says(tmp_path: Path) -> None:
    project = tmp_path / "project"
    create_project(project)
    blocks = blocks_of("async")
    (manifest,) = (block.text for block in blocks if block.language == "yaml")
    (project / "models.yaml").write_text(f"platform: turnout\n{manifest}")
    with running_server(project, "--workers", "1", cwd=project) as server:
        page = AsyncPage(server)
        path = "/dev/models/iris/inference"
        failed = server.post(path, {"inputs": {}}, prefer="respond-async").headers["location"]
        assert await_end(server, failed)["state"] == "failed"
        page.learn("ID", failed.rpartition("/")[2])
        runnable = [block for block in blocks if block.language in {"sh", "python"}]
        assert len(runnable) == 8
        for block in runnable:
            page.run(block)
        assert await_end(server, failed)["state"] == "failed"
        assert json.loads((project / "response.json").read_bytes())["outputs"]


def test_webhook_receiver_on_the_page_recognizes_a_genuine_signature(tmp_path: Path) -> None:
    (block,) = (block for block in blocks_of("async") if "def is_genuine" in block.text)
    defined: dict[str, object] = {}
    exec(block.text, defined)
    is_genuine, secret = defined["is_genuine"], load_secret(tmp_path)
    assert callable(is_genuine)
    header = sign_webhook(secret, b"body", 1_800_000_000.5)
    assert is_genuine(header, b"body", webhook_secret(secret)) is True
    assert is_genuine(header, b"other", webhook_secret(secret)) is False
    assert is_genuine(header.replace("t=18", "t=19"), b"body", webhook_secret(secret)) is False
