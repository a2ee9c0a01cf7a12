"""Reads the outputs of this stack's last `pulumi up` before any resource is created.

The engine returns them from its state, also in a preview. After `pulumi destroy` there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

READ = "pulumi:pulumi:readStackOutputs"
"""The engine's function behind stack references."""


def read_own_outputs() -> Mapping[str, Any] | None:
    """Return the outputs, empty if nothing is deployed; None if the engine does not know them."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    try:
        answer = pulumi.runtime.invoke(READ, {"name": name}).value
    except Exception:
        return None
    outputs = answer.get("outputs") if isinstance(answer, dict) else None
    return outputs if isinstance(outputs, dict) else None
