"""A seccomp filter: rejects system calls that affect other processes or the kernel, or bypass Landlock.

Landlock limits TCP by ports, but neither Unix sockets with a path nor multipath TCP nor a connection made by sending
(TCP Fast Open). Source: seccomp(2); the numbers are from Linux's tables. Imports none of our modules.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence

_SET_SECCOMP, _SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_ARCHITECTURES: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_NEW_USER_NAMESPACE = 0x10000000
_FAST_OPEN = 0x20000000
_INET, _INET6, _NETLINK = 2, 10, 16
_PROTOCOLS = (0, 6, 17)  # the default protocol, TCP, UDP

REFUSED: Mapping[str, tuple[int, int]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "open_by_handle_at": (304, 265),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}
"""System calls that no function needs, with their numbers on x86_64 and aarch64."""

_SOCKET, _CLONE, _CLONE3 = (41, 198), (56, 220), (435, 435)
_SENDING = (((44, 206), 3), ((46, 211), 2), ((307, 269), 3))
"""sendto, sendmsg, sendmmsg, and the index of their flags argument."""

Instruction = tuple[int, int, int, int]


def refuse_system_calls() -> bool:
    """Install the filter permanently; return False if this machine's architecture or kernel has none.

    Raises:
        OSError: the kernel rejects the filter.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return False
    program = make_filter(machine)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filled = Program(len(program), ctypes.addressof(buffer))
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(filled), 0, 0) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EINVAL:  # a kernel without seccomp
        return False
    raise OSError(number, f"seccomp: {os.strerror(number)}")


def make_filter(machine: str) -> list[Instruction]:
    """Return the filter's program in classic BPF.

    Args:
        machine: `x86_64` or `aarch64`.
    """
    column = list(_ARCHITECTURES).index(machine)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_GREATER_EQUAL, 0, 1, _X32),
        _refuse(errno.ENOSYS),
    ]
    for numbers in REFUSED.values():
        program += _case(numbers[column], [_refuse(errno.EPERM)])
    # Without `clone3` the C library makes threads with `clone`, whose flags the filter can see.
    program += _case(_CLONE3[column], [_refuse(errno.ENOSYS)])
    program += _case(_CLONE[column], _without_flag(0, _NEW_USER_NAMESPACE, errno.EPERM))
    for numbers, argument in _SENDING:
        program += _case(numbers[column], _without_flag(argument, _FAST_OPEN, errno.EACCES))
    program += _case(_SOCKET[column], _internet_only())
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _refuse(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)


def _case(number: int, block: Sequence[Instruction]) -> list[Instruction]:
    """Return a block for one system call; the number is loaded."""
    return [(_JUMP_EQUAL, 0, len(block), number), *block]


def _argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _without_flag(argument: int, flag: int, number: int) -> list[Instruction]:
    return [_argument(argument), (_JUMP_SET, 0, 1, flag), _refuse(number), (_RETURN, 0, 0, _ALLOW)]


def _internet_only() -> list[Instruction]:
    """Allow TCP and UDP over IPv4 and IPv6, and netlink, with which the C library lists interfaces."""
    allow = (_RETURN, 0, 0, _ALLOW)
    protocols = [instruction for protocol in _PROTOCOLS for instruction in ((_JUMP_EQUAL, 0, 1, protocol), allow)]
    return [
        _argument(0),
        (_JUMP_EQUAL, 0, 1, _NETLINK),
        allow,
        (_JUMP_EQUAL, 2, 0, _INET),
        (_JUMP_EQUAL, 1, 0, _INET6),
        _refuse(errno.EACCES),
        _argument(2),
        *protocols,
        _refuse(errno.EACCES),
    ]
