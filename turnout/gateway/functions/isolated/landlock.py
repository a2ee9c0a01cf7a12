"""Landlock: a process limits itself and its children to certain files and TCP ports, without privileges.

Source: https://docs.kernel.org/userspace-api/landlock.html. Imports none of our modules, because the bootstrap loads
it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPES = 1 | 2  # abstract Unix sockets, signals

TCP_ABI = 4
"""From this version on (Linux 6.7) TCP is limited."""

SIGNALS_ABI = 6
"""From this version on (Linux 6.12) signals reach only processes under the same limits."""

_RIGHTS_OF_ABI = ((5, 1 << 16), (3, 1 << 15), (2, 1 << 14), (1, 1 << 13))
"""The first bit that an older version does not support."""

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """Return the kernel's version of Landlock; 0 if it has none, or has it turned off."""
    version = int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))
    return max(version, 0)


def limit_access(readable: Iterable[str], writable: Iterable[str], ports: Iterable[int]) -> None:
    """Limit this process permanently to these files and folders and to connections to these TCP ports.

    Missing paths are skipped. What the kernel's version cannot limit stays open.

    Raises:
        OSError: the kernel rejects something that it should support.
    """
    abi = landlock_abi()
    handled = next(first for version, first in _RIGHTS_OF_ABI if abi >= version) - 1
    net = _BIND_TCP | _CONNECT_TCP if abi >= TCP_ABI else 0
    scopes = _SCOPES if abi >= SIGNALS_ABI else 0
    attributes = struct.pack("=QQQ", handled, net, scopes)
    size = 24 if scopes else 16 if net else 8
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    try:
        for path in readable:
            _allow_path(ruleset, path, _READ & handled)
        for path in writable:
            _allow_path(ruleset, path, handled)
        for port in ports if net else ():
            _call(_ADD_RULE, ruleset, _NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
        if _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise _error()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, handle), 0)
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"Landlock: {os.strerror(number)}")
