"""`make vendor`: fetches the console page's libraries from npm, checks them, and writes them next to the page.

    python scripts/vendor.py

Each package is fetched at a fixed version and must have the digest below. `vendor.json` then contains the digest of
every written file; tests/console/test_pages.py compares the files with it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "turnout" / "console" / "static" / "vendor"


@dataclass(frozen=True)
class Source:
    """One file of one package.

    Args:
        package: npm's name with the version.
        sha256: digest of the package's archive.
        license: SPDX identifier.
        path: path of the file in the archive.
        name: name of the written file.
        replaced: replacements in the file, because a browser resolves no bare module names and source maps are not
            included.
        added: text added at its end.
    """

    package: str
    sha256: str
    license: str
    path: str
    name: str
    replaced: tuple[tuple[str, str], ...] = ()
    added: str = ""


PREACT = "preact@11.2.0"
SOURCES = (
    Source(
        PREACT,
        "3c4456766bd32b6b534d52bf4e9c2a29b33e7eedf6e96ed479300ba1a7888ebf",
        "MIT",
        "dist/preact.mjs",
        "preact.js",
        (("//# sourceMappingURL=preact.mjs.map", ""),),
    ),
    Source(
        PREACT,
        "3c4456766bd32b6b534d52bf4e9c2a29b33e7eedf6e96ed479300ba1a7888ebf",
        "MIT",
        "hooks/dist/hooks.mjs",
        "hooks.js",
        (('from"preact"', 'from"./preact.js"'), ("//# sourceMappingURL=hooks.mjs.map", "")),
    ),
    Source(
        "htm@3.1.1",
        "2425b9bee11409177bcabc7f32e319926fc6690c1701c0b257c88bdff2d5ba90",
        "Apache-2.0",
        "dist/htm.module.js",
        "htm.js",
    ),
    Source(
        "uplot@1.6.32",
        "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d",
        "MIT",
        "dist/uPlot.iife.min.js",
        "uplot.js",
        (),
        "\nexport default uPlot;\n",
    ),
    Source(
        "uplot@1.6.32",
        "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d",
        "MIT",
        "dist/uPlot.min.css",
        "uplot.css",
    ),
)


def main() -> int:
    """Fetch, check and write everything."""
    written = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            archive = fetch(source, Path(folder))
            with tarfile.open(archive) as opened:
                member = opened.extractfile(f"package/{source.path}")
                if member is None:
                    raise SystemExit(f"{source.package} has no file {source.path}")
                text = member.read().decode()
            for old, new in source.replaced:
                if old not in text:
                    raise SystemExit(f"{source.package}: {source.path} does not hold {old}")
                text = text.replace(old, new)
            begin = "// @ts-nocheck\n" if source.name.endswith(".js") else ""
            data = (begin + text + source.added).encode()
            (FOLDER / source.name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            written[source.name] = {"from": source.package, "license": source.license, "sha256": digest}
    (FOLDER / "vendor.json").write_text(json.dumps(written, indent=2) + "\n")
    print(f"Wrote {len(written)} files and vendor.json to {FOLDER}")
    return 0


def fetch(source: Source, folder: Path) -> Path:
    """Return the package's archive after checking its digest."""
    command = ("npm", "pack", "--silent", source.package)
    name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    archive = folder / name
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != source.sha256:
        raise SystemExit(f"{source.package} has the digest {digest}, {source.sha256} is expected")
    return archive


if __name__ == "__main__":
    sys.exit(main())
