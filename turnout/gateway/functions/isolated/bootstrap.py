"""The first lines of an environment's process: its limits, its path, then awslambdaric.

Comes in: environment variables as Lambda sets them; on the command line how many bytes of memory may be writable, and
the layer's folder where there is one.
Run as a script by `turnout.gateway.functions.isolated.process`, without site-packages; imports nothing of ours.
"""

import os
import resource
import sys

OPEN_FILES = 1024
"""What Lambda allows."""


def limit(data_bytes: int) -> None:
    """Bound what this process and its children may take, each for itself, whatever the warden sees in time."""
    files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))


def main() -> None:
    """Run the handler that the variables name until the Runtime API goes away."""
    limit(int(sys.argv[1]))
    # Lambda's order: the function, its layers, the runtime, Python's own library.
    sys.path[:0] = [os.environ["LAMBDA_TASK_ROOT"], *sys.argv[2:], os.environ["LAMBDA_RUNTIME_DIR"]]
    sys.argv = ["bootstrap.py", os.environ["_HANDLER"]]
    from awslambdaric.__main__ import main as run

    run(sys.argv)


if __name__ == "__main__":
    main()
