"""Changes stages in the workers' shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from turnout.gateway.rules.stages import StageSettings
from turnout.gateway.shared.state import ControlState, SharedState


def update_stages(shared: SharedState, settings: Mapping[str, StageSettings]) -> int:
    """Replace the stages with these names and keep the others; raise KeyError for an unknown name."""

    def change(state: ControlState | None) -> ControlState:
        stages = {stage.name: stage for stage in (state.stages if state else ())}
        if unknown := settings.keys() - stages:
            raise KeyError(", ".join(sorted(unknown)))
        assert state is not None
        return replace(state, stages=tuple({**stages, **settings}.values()))

    return shared.update(change)
