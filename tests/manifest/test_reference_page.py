"""docs/manifest.md matches the schema."""

from __future__ import annotations

from pathlib import Path

from turnout.manifest.reference_page import render_manifest_reference
from turnout.manifest.schema import manifest_schema


def test_page_is_up_to_date(root: Path) -> None:
    assert (root / "docs" / "manifest.md").read_text() == render_manifest_reference(), "run `make generated`"


def test_every_key_is_on_the_page() -> None:
    page = render_manifest_reference()
    schema = manifest_schema()
    holders = [schema, *schema["$defs"].values()]
    keys = {key for holder in holders for key in holder.get("properties", {})}
    assert len(keys) > 25
    assert not [key for key in keys if f"| `{key}` |" not in page]
