"""Confines an environment's process to its own packages, a folder for its files and its Runtime API.

The bootstrap applies it in the process itself before any code of a model runs, and child processes inherit it. What the
kernel or the user of this process does not allow is left out; `find_boundary` reports what is available.
docs/isolation.md describes the consequences. Imports only neighboring modules, because the bootstrap loads it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import struct
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from turnout.gateway.functions.isolated.landlock import SIGNALS_ABI, TCP_ABI, landlock_abi, limit_access
from turnout.gateway.functions.isolated.seccomp import refuse_system_calls

FIRST_USER, LAST_USER = 61_184, 65_519
"""The range that systemd reserves for users that exist while a service runs: they own no files."""

PROCESSES = 1024
"""Most processes of one environment, including threads; Lambda's limit."""

ETC = tuple(
    "/etc/" + name
    for name in (
        *("alternatives", "ca-certificates", "crypto-policies", "fonts", "gai.conf", "group", "host.conf", "hosts"),
        *("ld.so.cache", "localtime", "magic", "mime.types", "nsswitch.conf", "passwd", "pki", "protocols"),
        *("resolv.conf", "services", "ssl", "timezone"),
    )
)

PROC = tuple(
    "/proc/" + name
    for name in (
        *("self", "cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems"),
        *("sys/kernel", "sys/vm", "sys/fs", "sys/crypto"),
    )
)
"""The readable parts of /proc: information about the machine, and this process, but no other process's command line."""

SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    *PROC,
    "/sys/bus/pci/devices",  # onnxruntime looks for accelerators there, and warns in each process if it must not
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    *ETC,
)
"""System paths that programs need to read: programs, libraries, hardware, certificates, names."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_SET_DUMPABLE, _SET_KEEPCAPS, _CAP_AMBIENT, _CAP_AMBIENT_RAISE = 4, 8, 47, 2
_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION = 0x20080522
_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Boundary:
    """The means on this machine that confine environments.

    Args:
        landlock: the kernel's version of Landlock; 0 for none.
        own_user: whether each environment has its own user.
    """

    landlock: int
    own_user: bool

    @property
    def missing(self) -> list[str]:
        """Return short phrases for what a function could do despite its confinement."""
        names = []
        if not self.landlock:
            names.append("read this user's files" if not self.own_user else "read files that are open to every user")
        if self.landlock < TCP_ABI:
            names.append("connect to every port of this machine")
        if self.landlock < SIGNALS_ABI and not self.own_user:
            names.append("signal this user's processes")
        return names

    def describe(self) -> str:
        """Return one line for the log."""
        parts = ["a user of its own"] if self.own_user else []
        parts += [f"Landlock {self.landlock}"] if self.landlock else []
        means = " and ".join(parts) or "processes of its own"
        missing = f"; it could {', '.join(self.missing)}" if self.missing else ""
        return f"each environment has {means}{missing}"


def find_boundary(paths: Sequence[str] = ()) -> Boundary:
    """Return the available means.

    Args:
        paths: what environments read; without Landlock an own user can only use what every user may read.
    """
    abi = landlock_abi()
    is_root = os.geteuid() == 0
    return Boundary(abi, is_root and (abi > 0 or are_open_to_all(paths)) and _has_own_users())


def _has_own_users() -> bool:
    """Whether the users exist here: a container may map fewer."""
    try:
        with open("/proc/self/uid_map", "rb") as stream:  # noqa: PTH123
            ranges = [tuple(map(int, line.split())) for line in stream]
    except (OSError, ValueError):
        return True
    return any(first <= FIRST_USER and first + count > LAST_USER for first, _, count in ranges)


def are_open_to_all(paths: Iterable[str]) -> bool:
    """Whether every user may read the paths, including the folders above them."""
    return all(_is_open_to_all(os.path.realpath(path)) for path in paths)


def _is_open_to_all(path: str) -> bool:
    try:
        if not os.stat(path).st_mode & stat.S_IROTH:  # noqa: PTH116
            return False
        while path != "/":
            if os.path.isdir(path) and not os.stat(path).st_mode & stat.S_IXOTH:  # noqa: PTH112, PTH116
                return False
            path = os.path.dirname(path)  # noqa: PTH120
    except OSError:
        return False
    return True


def confine(code: Sequence[str], scratch: str, ports: Iterable[int]) -> None:
    """Confine this process permanently.

    Args:
        code: the folders that the function runs from.
        scratch: the folder that it may write to.
        ports: TCP ports to which it may connect.

    Raises:
        OSError: the kernel rejects something that it should support.
    """
    readable = [*code, *_python(), *SYSTEM, *_pci_devices()]
    boundary = find_boundary([*code, *_python()])
    if boundary.own_user:
        _become_own_user(scratch, keep_reading=not are_open_to_all([*code, *_python()]))
    _libc().prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if boundary.landlock:
        limit_access(readable, [scratch, *DEVICES], ports)
    refuse_system_calls()


def _pci_devices() -> list[str]:
    """Return the folders that the links in /sys/bus/pci/devices lead to."""
    try:
        return ["/sys/devices/" + name for name in os.listdir("/sys/devices") if name.startswith("pci")]  # noqa: PTH208
    except OSError:
        return []


def _python() -> list[str]:
    """Return the paths of this interpreter: its program, its library, and the files that locate it."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    library = sysconfig.get_config_var("LIBDIR")
    program = os.path.realpath(sys.executable)
    environment = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "pyvenv.cfg")  # noqa: PTH118, PTH120
    shared = os.path.join(library, sysconfig.get_config_var("INSTSONAME") or "") if library else ""  # noqa: PTH118
    paths = [*folders, program, environment, shared]
    return [path for path in dict.fromkeys(paths) if path and os.path.exists(path)]  # noqa: PTH110


def _become_own_user(scratch: str, *, keep_reading: bool) -> None:
    """Switch to a user that no other process has, and drop all capabilities.

    Args:
        scratch: the folder that this user gets.
        keep_reading: whether only root can access the packages; the capability to read everything is then kept, and
            Landlock limits it to the packages.
    """
    libc = _libc()
    user = FIRST_USER + os.getpid() % (LAST_USER - FIRST_USER + 1)
    os.chown(scratch, user, user)
    os.setgroups([])
    os.setresgid(user, user, user)
    libc.prctl(_SET_KEEPCAPS, int(keep_reading), 0, 0, 0)
    os.setresuid(user, user, user)
    if keep_reading:
        capability = 1 << _DAC_READ_SEARCH
        header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
        if libc.capset(header, struct.pack("=6I", capability, capability, capability, 0, 0, 0)) != 0:
            raise OSError(ctypes.get_errno(), "capset")
        libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_RAISE, _DAC_READ_SEARCH, 0, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # for this process's own access; no other process has this user


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
