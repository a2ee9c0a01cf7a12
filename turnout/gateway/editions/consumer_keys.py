"""Keys of stages' consumers on this machine. Each is printed once, when it is made; only its digest is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.gateway.editions.api_keys import lock_folder, make_key
from turnout.problems import Problem, ProblemsError
from turnout.protocol.aws.callers import digest_key
from turnout.system.files import PRIVATE, write_whole

FILE = "consumer_keys.json"

KeyName = tuple[str, str, str]
"""Stage, consumer and the key's name."""


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A stored key: its SHA-256, and the day on which it was made."""

    digest: str
    made: str


def read_consumer_keys(folder: Path) -> dict[KeyName, KeptKey]:
    """The keys stored in the project's `.turnout`.

    Raises:
        ProblemsError: the file cannot be read, or has another format.
    """
    path = folder / FILE
    try:
        rows = json.loads(path.read_bytes() or b"[]")
        return {
            (entry["stage"], entry["consumer"], entry["key"]): KeptKey(entry["sha256"], entry["made"]) for entry in rows
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is not what `turnout keys` writes"
        hint = "Delete it, and make new keys with `turnout keys issue STAGE CONSUMER`."
        raise ProblemsError((Problem(f"cannot be read: {reason}", source=str(path), hint=hint),)) from None


def make_consumer_keys(folder: Path, names: Iterable[KeyName], today: str) -> dict[KeyName, str]:
    """Make a key for each name that has none; return the new keys, which are not stored.

    Raises:
        OSError: the folder cannot be written.
        ProblemsError: the existing file cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        known = read_consumer_keys(folder)
        made = {name: make_key() for name in names if name not in known}
        if made:
            new = {name: KeptKey(digest_key(value), today) for name, value in made.items()}
            _write(folder / FILE, {**known, **new})
    return made


def drop_consumer_keys(folder: Path, names: Iterable[KeyName]) -> None:
    """Delete keys; a server rejects them once it has reloaded."""
    if not (folder / FILE).exists():
        return
    dropped = set(names)
    with lock_folder(folder):
        known = read_consumer_keys(folder)
        if known.keys() & dropped:
            _write(folder / FILE, {name: key for name, key in known.items() if name not in dropped})


def _write(path: Path, keys: Mapping[KeyName, KeptKey]) -> None:
    rows: list[dict[str, Any]] = [
        {"stage": stage, "consumer": consumer, "key": key, "sha256": kept.digest, "made": kept.made}
        for (stage, consumer, key), kept in sorted(keys.items())
    ]
    write_whole(path, f"{json.dumps(rows, indent=2)}\n".encode(), PRIVATE)
