"""The tokens with which this project's commands call the services of its running servers.

`turnout serve` writes `.turnout/services.json`, which only its owner may read: the address of each running
server of the project, with its token if its services require one. Commands read the token there, and recognize the
project's addresses by it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from turnout.loopback import is_loopback
from turnout.system.files import PRIVATE, write_whole

NAME = "services.json"


class ServicesMode(StrEnum):
    """Which callers services accept."""

    LOCAL = "local"
    TOKEN = "token"  # noqa: S105 - a choice, not a secret
    OFF = "off"


@dataclass(frozen=True, slots=True)
class RunningServices:
    """The services of one running server.

    Args:
        host: the host that it listens on.
        token: token that its services require, or empty.
    """

    host: str
    token: str


@contextmanager
def announced_services(folder: Path, host: str, port: int, token: str) -> Iterator[None]:
    """Announce a server to commands during the block.

    Args:
        folder: the project's `.turnout`.
        host: the host that it listens on.
        port: the port that it listens on.
        token: token that its services require, or empty.

    Raises:
        OSError: the token cannot be stored. Without a token, no error is raised: commands need not find the server.
    """
    key, entry = str(port), {"host": host, "token": token, "pid": str(os.getpid())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _change(folder, lambda servers: {**servers, key: entry})
    except OSError:
        if token:
            raise
    try:
        yield
    finally:
        with suppress(OSError):
            _change(folder, lambda servers: {name: value for name, value in servers.items() if value != entry})


def find_services(project: Path, url: str) -> RunningServices | None:
    """Return the services of a server of this project at an address of this machine; None for any other address.

    Args:
        project: the folder of models.yaml.
        url: the address of a command's request.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        entry = _read(project / ".turnout")[str(port)]
        services = RunningServices(str(entry["host"]), str(entry["token"]))
    except (ValueError, KeyError, TypeError):
        return None
    host = parts.hostname or ""
    return services if is_loopback(host) or host == services.host else None


def find_token(project: Path, url: str) -> str:
    """Return the token of the server at an address; empty for other machines."""
    services = find_services(project, url)
    return services.token if services is not None else ""


def read_tokens(project: Path) -> dict[int, str]:
    """Return port -> token of the project's servers that require one."""
    servers = _read(project / ".turnout")
    with suppress(ValueError, KeyError, TypeError):
        return {int(port): str(server["token"]) for port, server in servers.items() if server["token"]}
    return {}


def service_headers(token: str) -> dict[str, str]:
    """Return the header for a token."""
    return {"authorization": f"Bearer {token}"} if token else {}


def _read(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the running servers, without entries left by killed servers."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        servers = json.loads((folder / NAME).read_bytes())
        return {port: server for port, server in servers.items() if _runs(int(server["pid"]))}
    return {}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _change(folder: Path, change: Callable[[Mapping[str, Mapping[str, str]]], Mapping[str, Mapping[str, str]]]) -> None:
    """Change the file only if its folder exists: a server that ends must not recreate a deleted project."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        write_whole(folder / NAME, f"{json.dumps(change(_read(folder)), indent=2)}\n".encode(), PRIVATE)
    finally:
        os.close(handle)
