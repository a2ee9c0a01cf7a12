"""Disables onnxruntime's reports to its maker.

Since 1.32, onnxruntime looks up a host of Microsoft's and writes below `$HOME/.cache/Microsoft` when it is loaded,
unless a variable is set before. Every process of Turnout's that loads it sets the variable; a user's value stays. An
empty one counts as not set, since onnxruntime would send reports with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

TELEMETRY_OFF: Mapping[str, str] = {"ORT_DISABLE_TELEMETRY": "1"}
"""The variables of every process and function that loads onnxruntime."""


def disable_telemetry() -> None:
    """Set the variables for this process and its children. Call it before `import onnxruntime`."""
    for name, value in TELEMETRY_OFF.items():
        os.environ[name] = os.environ.get(name) or value
