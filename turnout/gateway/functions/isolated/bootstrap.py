"""The first code in an environment's process: forks from its keeper, sets limits, confines it, then runs awslambdaric.

The command line contains what `make_settings` of `process.py` writes. The environment variables are Lambda's. It runs
as a script, without site-packages, and imports none of our modules except the files next to it.
"""

import json
import os
import resource
import sys

OPEN_FILES = 1024
"""Lambda's limit."""


def limit(data_bytes: int) -> None:
    """Limit what this process and its children may use, each separately, independently of the warden."""
    files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))


def _load_confinement(scratch: str):  # type: ignore[no-untyped-def]  # none of our modules is imported yet
    """Fork from the keeper; in the child, load the code that confines it.

    The function's own `turnout` is a different package.
    """
    package = os.path.abspath(f"{__file__}/../../../../..")  # noqa: PTH100
    sys.path.append(package)
    from turnout.gateway.functions.isolated.confinement import confine
    from turnout.gateway.functions.isolated.keeper import fork_kept

    sys.path.remove(package)
    fork_kept(scratch)
    for name in [name for name in sys.modules if name.partition(".")[0] == "turnout"]:
        del sys.modules[name]
    return confine


def main() -> None:
    """Run the handler named in the variables until the Runtime API ends."""
    settings = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    confine = _load_confinement(settings["scratch"])
    limit(settings["data_bytes"])
    confine(settings["code"], settings["scratch"], settings["ports"])
    # The order on Lambda: the function, its layers, the runtime, Python's standard library.
    sys.path[:0] = [os.environ["LAMBDA_TASK_ROOT"], *settings["layers"], os.environ["LAMBDA_RUNTIME_DIR"]]
    sys.argv = ["bootstrap.py", os.environ["_HANDLER"]]
    from awslambdaric.__main__ import main as run

    run(sys.argv)


if __name__ == "__main__":
    main()
