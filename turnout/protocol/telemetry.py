"""Switches off what onnxruntime reports to its maker.

Since 1.32 onnxruntime looks up a host of Microsoft's and writes below `$HOME/.cache/Microsoft` when it is loaded,
unless a variable is set before. Every process of ours that loads it sets the variable; a value that the user set stays.
An empty one counts as not set: onnxruntime would report with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

TELEMETRY_OFF: Mapping[str, str] = {"ORT_DISABLE_TELEMETRY": "1"}
"""The variables of every process and function that loads onnxruntime."""


def disable_telemetry() -> None:
    """Set the variables for this process and those that it starts. Call it before `import onnxruntime`."""
    for name, value in TELEMETRY_OFF.items():
        os.environ[name] = os.environ.get(name) or value
