"""The keys of a version are listed in the schema, the values and their consumer, and nowhere else."""

from __future__ import annotations

from dataclasses import fields

import pytest

from turnout.manifest.schema import manifest_schema
from turnout.manifest.settings import FIELD_OF, READERS, Capture, Settings, Slo, Warm, read_settings
from turnout.manifest.values import Version
from turnout.plan.values import Function

KEYS = {field.name for field in fields(Settings)}


def test_every_key_has_a_reader_and_a_place_in_the_schema() -> None:
    assert {FIELD_OF.get(key, key) for key in READERS} == KEYS
    assert set(manifest_schema()["$defs"]["version"]["properties"]) >= set(READERS)


def test_keys_that_a_version_does_not_set_keep_their_default() -> None:
    assert Settings(**read_settings({"artifact": "a.onnx"})) == Settings()


@pytest.mark.parametrize(
    ("fields_", "settings"),
    [
        ({"memory_mb": 512.0}, Settings(memory_mb=512)),
        ({"warm": {"snap_start": True}}, Settings(warm=Warm(snap_start=True))),
        ({"warm": {"provisioned": 2.0}}, Settings(warm=Warm(provisioned=2))),
        ({"slo": {"p99_ms": 100}}, Settings(slo=Slo(100.0))),
        ({"capture": {"percent": 1, "redact": ["age"]}}, Settings(capture=Capture(1.0, ("age",)))),
        ({"reserved_concurrency": 0}, Settings(reserved_concurrency=0)),
    ],
)
def test_keys_are_read(fields_: dict[str, object], settings: Settings) -> None:
    assert Settings(**read_settings(fields_)) == settings


def test_a_function_contains_the_settings_and_copies_no_key() -> None:
    version = Version("iris", "v1", "a.onnx", memory_mb=512, environment={"A": "b"}, description="unlike")
    assert version.settings == Settings(memory_mb=512, environment={"A": "b"})
    assert not KEYS & {field.name for field in fields(Function)}
