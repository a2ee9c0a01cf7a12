"""The function of a pool: many versions in one function, each loaded when it is called.

As in its own function, each version has its own answers, headers, transform modules and captures.
"""

from __future__ import annotations

import ctypes
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.protocol.aws.events import LambdaHandler, is_ping, make_answer
from turnout.protocol.routing.pooled import UNKNOWN_VERSION, find_aim

from .pool_log import begin_call, end_call, make_called
from .runtime import ModelError
from .session_cache import SessionCache, Size

Key = tuple[str, str]
"""A version: model and name."""


@dataclass(frozen=True, slots=True)
class PooledVersion:
    """One version of a pool.

    Args:
        sha256: the artifact's digest.
        size: its memory and disk while it is loaded.
        folder: folder of its files while it is loaded.
        load: fetches its files into that folder and opens it.
    """

    sha256: str
    size: Size
    folder: Path
    load: Callable[[], LambdaHandler]


class PoolFunction:
    """Calls the version of an event. May be called from several threads at once.

    Args:
        name: name of the pool.
        versions: versions by model and name.
        limit: limit of everything loaded at the same time.
        write: takes one line for the log.
        clock: seconds since 1970.
        monotonic: seconds, for durations.
    """

    def __init__(
        self,
        name: str,
        versions: Mapping[Key, PooledVersion],
        limit: Size,
        write: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._name = name
        self._versions = versions
        self._write = write
        self._clock = clock
        self._monotonic = monotonic
        self.cache: SessionCache[Key, LambdaHandler] = SessionCache(
            limit, lambda key: versions[key].size, self._load, self._unload
        )

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Return the answer of the event's version.

        Raises:
            ModelError: the pool has no such version, or it cannot be opened.
        """
        key = find_aim(event)
        if is_ping(event) and not key[0]:
            return make_answer(200, {"Content-Type": "application/json"}, b'{"ready":true}')
        if key not in self._versions:
            raise ModelError(f"{UNKNOWN_VERSION} `{' '.join(key).strip()}`: {self._name}")
        if is_ping(event):
            with self.cache.use(key) as handle:
                return handle(event, context)
        call = make_called(event, context, *key, self._versions[key].sha256[:12], self._clock())
        begin_call(call, self._write)
        started, loaded, status = self._monotonic(), key not in self.cache, 500
        try:
            with self.cache.use(key) as handle:
                answer = handle(event, context)
            status = answer["statusCode"]
            return answer
        finally:
            end_call(call, status, (self._monotonic() - started) * 1000, self._write, loaded=loaded)

    def _load(self, key: Key) -> LambdaHandler:
        try:
            return self._versions[key].load()
        except BaseException:
            shutil.rmtree(self._versions[key].folder, ignore_errors=True)
            raise

    def _unload(self, key: Key) -> None:
        """Delete the files, and return the memory to the system."""
        shutil.rmtree(self._versions[key].folder, ignore_errors=True)
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
