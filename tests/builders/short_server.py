"""`turnout` on a system that cannot start another process while a file exists.

`python -m tests.builders.short_server FILE serve ...`: while FILE exists, `fork` fails as it does at RLIMIT_NPROC, to
which root is not subject.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from turnout.cli.__main__ import main


def limit_forks(full: Path) -> None:
    fork = os.fork

    def limited() -> int:
        if full.exists():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    os.fork = limited


if __name__ == "__main__":
    limit_forks(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
