"""The wheel in an empty virtual environment, as users have it who do not use a checkout.

The environment is new, and pip installs the wheel into it without the network. The dependencies are not copied: a .pth
file makes those of the test environment importable. Folders from a .pth file are searched last, and .pth files in them
are not read, so the editable install of the checkout is not visible.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.builders.waiting import PATIENCE_S


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it.

    Args:
        python: its interpreter.
        site: its site-packages.
        elsewhere: an empty folder; commands run there.
    """

    python: Path
    site: Path
    elsewhere: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables without anything that leads back to the checkout."""
        return plain_environment()

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python.with_name("turnout")), *arguments]

    def run(self, *arguments: str) -> str:
        """Return the standard output of a command that must succeed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.elsewhere,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def plain_environment() -> dict[str, str]:
    """Return this process's environment without anything that leads back to the checkout."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "COV", "VIRTUAL_ENV"))}
    return {**kept, "NO_COLOR": "1"}


def build_wheel(root: Path, folder: Path) -> Path:
    """Build the checkout's wheel into `folder`, which is created."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = folder.iterdir()
    return wheel


def make_environment(folder: Path) -> Path:
    """Make an environment in which the dependencies can be imported; return its interpreter."""
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    return folder / "bin" / "python"


def install_wheel(root: Path, folder: Path) -> Installed:
    """Build the checkout's wheel and install it below `folder`."""
    wheel = build_wheel(root, folder / "dist")
    python = make_environment(folder / "venv")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (folder / "elsewhere").mkdir()
    return Installed(python, site, folder / "elsewhere")
