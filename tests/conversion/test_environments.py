"""Environments of converters are made once and atomically, by uv from a package index on loopback with one package."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.waiting import wait_until
from tests.conversion.conftest import LARGE, environment
from turnout.conversion import environments
from turnout.conversion.errors import ConversionError

WHEEL = "tiny-1-py3-none-any.whl"

MAKE = """
import json, sys
from pathlib import Path
from turnout.conversion import environments
from turnout.conversion.errors import ConversionError

environments.LOCKS = Path(sys.argv[1])
remarks = []
try:
    python = environments.find_environment("tiny", remarks.append)
    print(json.dumps({"python": str(python), "remarks": remarks}))
except ConversionError as error:
    sys.exit(str(error))
"""


def make_wheel() -> bytes:
    """Make a wheel with one module. Source: Binary distribution format, PyPA specifications."""
    files = {
        "tiny.py": "NAME = 'tiny'\n",
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.dist-info/RECORD": "tiny.py,,\n",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@dataclass
class Index:
    """The index, and uv's requests to it; the wheel is sent once `is_open`."""

    locks: Path
    wheel: bytes = field(default_factory=make_wheel)
    asked: list[str] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)

    def start_making(self) -> subprocess.Popen[str]:
        """Start a process that requests the environment."""
        command = [sys.executable, "-c", MAKE, str(self.locks)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wheels_sent(self) -> int:
        return sum(path.endswith(WHEEL) for path in self.asked)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index(tmp_path / "locks")

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            if self.path.endswith(WHEEL):
                made.is_open.wait(60)
                kind, body = "application/octet-stream", made.wheel
            else:
                kind, body = "text/html", f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
            self.respond(200, body, content_type=kind)

        def do_CONNECT(self) -> None:  # of a proxy, for addresses outside of this machine
            made.asked.append(self.path)
            self.respond(403, b"")

    made.locks.mkdir()
    digest = hashlib.sha256(made.wheel).hexdigest()
    (made.locks / "tiny.lock").write_text(f"tiny==1 --hash=sha256:{digest}\n")
    monkeypatch.setattr(environments, "LOCKS", made.locks)
    with loopback_server(Handler) as url:
        for name, value in {
            "TURNOUT_CACHE_DIR": str(tmp_path / "cache"),
            "UV_CACHE_DIR": str(tmp_path / "uv"),
            "UV_DEFAULT_INDEX": f"{url}/simple",
            "UV_NO_CONFIG": "1",
            "UV_HTTP_RETRIES": "0",
            "HTTPS_PROXY": url,
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        try:
            yield made
        finally:
            made.is_open.set()


def check_whole(python: Path) -> None:
    """Check that it is the only item in the cache besides locks, and contains the package."""
    folder = environments.environment_folder("tiny")
    assert python == folder / "bin" / "python"
    assert [path for path in folder.parent.iterdir() if path.suffix != ".lock"] == [folder]
    subprocess.run([python, "-I", "-c", "import tiny; assert tiny.NAME == 'tiny'"], check=True)


def has_open(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(link.readlink() == path for link in Path(f"/proc/{process.pid}/fd").iterdir())
    except OSError:
        return False


def test_concurrent_processes_make_it_once(index: Index) -> None:
    index.is_open.set()
    folder = environments.environment_folder("tiny")
    folder.parent.mkdir(parents=True)
    path = folder.parent / f".{folder.name}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    processes = [index.start_making() for _ in range(3)]
    try:
        for process in processes:
            wait_until(lambda process=process: has_open(process, path), "the process to wait for the lock")
        os.close(handle)
        results = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert sorted(len(result["remarks"]) for result in results) == [0, 0, 1]
    (python,) = {result["python"] for result in results}
    check_whole(Path(python))
    assert index.wheels_sent() == 1
    assert environments.find_environment("tiny", pytest.fail) == Path(python)


def test_later_processes_use_nothing_that_a_killed_one_left(index: Index) -> None:
    folder = environments.environment_folder("tiny")
    unfinished = folder.with_name(f".{folder.name}.part")
    process = index.start_making()
    wait_until(lambda: index.wheels_sent() == 1, "uv to fetch the wheel")
    assert (unfinished / "bin" / "python").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not folder.exists()
    (unfinished / "lib" / "left").write_text("of the one that was killed")
    index.is_open.set()
    remarks: list[str] = []
    check_whole(environments.find_environment("tiny", remarks.append))
    assert len(remarks) == 1
    assert not (folder / "lib" / "left").exists()


def test_a_package_with_another_digest_is_rejected(index: Index) -> None:
    index.wheel = index.wheel + b"\0"
    index.is_open.set()
    with pytest.raises(ConversionError, match="the packages that convert tiny models cannot be installed"):
        environments.find_environment("tiny", lambda _: None)
    assert not [path for path in (environments.cache_folder() / "converters").iterdir() if path.suffix != ".lock"]


def test_the_build_of_pytorch_comes_from_the_index_that_uv_chooses(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no such index on loopback, so uv's request for it ends at the proxy."""
    digest = hashlib.sha256(index.wheel).hexdigest()
    entries = [f"{name}==1 \\\n    --hash=sha256:{digest}\n" for name in ("nvidia-tiny", "tiny", "torch", "triton")]
    (index.locks / "torch.lock").write_text("".join(entries))
    plain = environments.environment_folder("torch")
    monkeypatch.setenv("UV_TORCH_BACKEND", "cpu")
    assert environments.environment_folder("torch") != plain
    assert environments.environment_folder("tiny") == environments.environment_folder("tiny")
    index.is_open.set()
    remarks: list[str] = []
    with pytest.raises(ConversionError, match="the packages that convert torch models cannot be installed"):
        environments.find_environment("torch", remarks.append)
    assert remarks[0].startswith("installing PyTorch for cpu (UV_TORCH_BACKEND) into ")
    assert {path for path in index.asked if "simple" in path} == {"/simple/tiny/"}
    assert index.asked[-1] == "download.pytorch.org:443"
    assert not environments.environment_folder("torch").exists()


def test_large_environments_announce_their_size(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    (index.locks / "torch.lock").write_text((index.locks / "tiny.lock").read_text())
    index.is_open.set()
    remarks: list[str] = []
    environments.find_environment("torch", remarks.append)
    assert f"installing up to 1 packages for torch models ({environments.SIZES['torch']}) into " in remarks[0]


def test_run_that_asks_for_large_packages_fails_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("TURNOUT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(LARGE["torch"], "1")
    with pytest.raises((ConversionError, pytest.skip.Exception)) as caught:
        environment("torch")
    assert caught.type is ConversionError
    monkeypatch.delenv(LARGE["torch"])
    with pytest.raises(pytest.skip.Exception, match="gigabytes"):
        environment("torch")
