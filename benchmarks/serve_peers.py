"""Turnout compared with other model servers: the peers' benchmark with `turnout serve` as one more server.

Makes a throwaway project of the benchmark's models, with every rule of the gateway on (API key, throttle, stage
variables, a canary with 10% of the traffic), and starts the peers' benchmark with it. In the folder `PEERS_WORK` that
benchmark keeps its virtual environments and models.

    PEERS_WORK=FOLDER python benchmarks/serve_peers.py BENCH_FOLDER [--workers N]... -- [the benchmark's arguments]

For example `... -- --peers lean-uvicorn-2,kserve-2,triton-2 --models tiny --seconds 3`. With several `--workers` there
is one Turnout for each. The peers' benchmark prints its tables and stores its result lines.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

MANIFEST = """\
platform: turnout
defaults: {memory_mb: 1024, timeout_s: 15}
models:
  tiny:
    versions:
      v1: {artifact: models/tiny.onnx}
      v2: {artifact: models/tiny.onnx}
  mid:
    versions:
      v1: {artifact: models/mid.onnx}
  wide:
    versions:
      v1: {artifact: models/wide.onnx}
stages:
  prod:
    serve: {tiny: v1, mid: v1, wide: v1}
    canary: {percent: 10, serve: {tiny: v2}}
    auth: api_key
    throttle: {rate: 1000000, burst: 1000000}
"""
"""The throttle counts every request and is too high to reject one."""


def make_project(folder: Path, models: Path) -> str:
    """Make a project of the benchmark's models in `folder`; return its API key."""
    (folder / "models").mkdir(parents=True)
    for name in ("tiny", "mid", "wide"):
        (folder / "models" / f"{name}.onnx").write_bytes((models / f"{name}.onnx").read_bytes())
    (folder / "models.yaml").write_text(MANIFEST)
    key = secrets.token_hex(20)
    (folder / ".turnout").mkdir()
    (folder / ".turnout" / "api_keys.json").write_text(json.dumps({"prod": key}))
    return key


def make_command(project: Path, extra: str, options: list[str]) -> str:
    turnout = Path(sys.executable).with_name("turnout")
    words = [str(turnout), "serve", "--manifest", str(project), "--port", "{port}", *options, *shlex.split(extra)]
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="the folder of the peers' benchmark")
    parser.add_argument("--workers", type=int, action="append", help="of `turnout serve`; repeatable")
    parser.add_argument("--serve", default="--no-access-log", help="further options of `turnout serve`, in one word")
    ours, theirs = sys.argv[1:], []
    if "--" in ours:
        at = ours.index("--")
        ours, theirs = ours[:at], ours[at + 1 :]
    arguments = parser.parse_args(ours)
    work = Path(os.environ["PEERS_WORK"]).resolve()
    with tempfile.TemporaryDirectory(prefix="turnout-peers-") as folder:
        project = Path(folder) / "project"
        key = make_project(project, work / "models")
        for count in arguments.workers or [0]:
            options = ["--workers", str(count)] if count else []
            theirs += ["--command", make_command(project, arguments.serve, options)]
            theirs += ["--name", f"turnout-{count}" if count else "turnout"]
        theirs += ["--path", "/models/{model}/v1/inference", "--target-binary"]
        python = work / "venvs/models/bin/python"
        environment = {
            **os.environ,
            "PEERS_WORK": str(work),
            "PEERS_BENCH": str(arguments.bench.resolve()),
            "PEERS_KEY": key,
        }
        script = Path(__file__).with_name("peers_with_key.py")
        raise SystemExit(subprocess.run([python, script, *theirs], check=False, env=environment).returncode)


if __name__ == "__main__":
    main()
