from __future__ import annotations

import pytest

from turnout.manifest.version_source import VersionSource, without_secrets


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@host/a?token=1#x", "https://host/a"),
        ("https://host:8443/a%3Fb?X-Amz-Signature=secret", "https://host:8443/a%3Fb"),
        ("ftp://me:secret@host/a", "ftp://host/a"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("s3://id:secret@bucket/what?#1.skops", "s3://bucket/what?#1.skops"),
        ("gs://bucket/a#b", "gs://bucket/a#b"),
        ("mlflow:name@alias", "mlflow:name@alias"),
        ("runs:/0123/model", "runs:/0123/model"),
        ("models/a?b.skops", "models/a?b.skops"),
        ("https://me:secret@[/a", "https://..."),
    ],
)
def test_secrets_are_removed_from_addresses(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
    assert VersionSource(address).to_json() == {"address": shown}
    assert VersionSource(address).to_text() == shown


def test_text_names_revision_and_converter() -> None:
    assert (
        VersionSource("mlflow:iris@champion", "3", converter="sklearn").to_text() == "mlflow:iris@champion (3, sklearn)"
    )
    assert VersionSource("model.ubj", converter="xgboost").to_text() == "model.ubj (xgboost)"
    assert VersionSource("https://host/m", "0123456789abcdef").to_text() == "https://host/m (0123456789ab)"
