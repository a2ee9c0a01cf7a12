"""Memory and startup: the sample project's first answer, its memory with all models loaded, and 200 idle models.

Memory is PSS, which counts shared pages once. The bars: first answer within 0.6 s; one worker with every sample model
loaded under 150 MB; 200 registered models without calls under 200 MB. Exits with 1 if one is missed.

    python benchmarks/footprint.py [--starts 7] [--models 200]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from serving import post, pss_mb, serving, write_tiny

REPOSITORY = Path(__file__).resolve().parent.parent
ONE_WORKER = ("--no-access-log", "--workers", "1")


def sample_requests(folder: Path) -> dict[str, Any]:
    """Path -> the first example, for every version of the sample project."""
    from turnout.artifacts.examples import read_examples
    from turnout.project.project import load_project

    requests = {}
    for model in load_project(folder / "models.yaml").manifest.models:
        for version in model.versions:
            assert version.examples, f"{model.name} {version.name} has no examples"
            request = read_examples(folder / version.examples)[0].request
            requests[f"/models/{model.name}/{version.name}/inference"] = request
    return requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=7, help="start-ups, of which the median counts")
    parser.add_argument("--models", type=int, default=200)
    arguments = parser.parse_args()
    missed = 0

    def report(what: str, value: float, bar: float, unit: str) -> None:
        nonlocal missed
        missed += value > bar
        print(f"{what:52}{value:>9.2f} {unit:3} (at most {bar:g})")

    with tempfile.TemporaryDirectory() as name:
        sample = Path(name) / "sample"
        shutil.copytree(REPOSITORY / "models", sample / "models")
        shutil.copy(REPOSITORY / "models.yaml", sample)
        requests = sample_requests(sample)
        path, body = next(iter(requests.items()))
        starts = []
        for _ in range(arguments.starts):
            with serving(sample, path, body) as server:
                starts.append(server.seconds)
        report("sample project, start to first answer (median)", statistics.median(starts), 0.6, "s")
        with serving(sample, path, body, ONE_WORKER) as server:
            for _ in range(2):
                for path, body in requests.items():
                    post(server.port, path, body)
            each = sorted((pss_mb(pid) for pid in server.pids()), reverse=True)
            report(f"sample project, {len(requests)} versions loaded, one worker", each[0], 150, "MB")
            report(f"the same with its {len(each) - 1} other process(es)", sum(each), 150, "MB")

        many = Path(name) / "many"
        many.mkdir()
        write_tiny(many / "tiny.onnx")
        entries = [f"  m{n}: {{versions: {{v1: {{artifact: tiny.onnx}}}}}}" for n in range(arguments.models)]
        (many / "models.yaml").write_text(
            "\n".join(["models:", *entries, "stages:", '  dev: {serve: {"*": newest}}', ""])
        )
        with serving(many, "/", None, ONE_WORKER) as server:
            report(f"{arguments.models} models, none called, one worker", server.pss_mb(), 200, "MB")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
