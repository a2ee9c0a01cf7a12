"""What the operating system knows about a running server's processes."""

from __future__ import annotations

from pathlib import Path

ESTABLISHED = "01"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether the process exists; zombies do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def connections_of(pid: int, port: int) -> int:
    """Return how many established connections to the port a process holds."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {each[9] for each in rows if each[3] == ESTABLISHED and int(each[1].rpartition(":")[2], 16) == port}
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return len(held & {f"socket:[{inode}]" for inode in inodes})
