from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders.control_scene import ControlScene, control_scene


@pytest.fixture(scope="module")
def module_scene() -> Iterator[ControlScene]:
    with control_scene() as scene:
        yield scene


@pytest.fixture
def scene(module_scene: ControlScene) -> ControlScene:
    module_scene.put()
    return module_scene
