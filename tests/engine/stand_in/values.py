"""Converts Pulumi's property values to plain Python and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc as pulumi_rpc

UNKNOWN: str = pulumi_rpc.UNKNOWN
"""The wire format of a value that a preview does not know yet: the SDK cannot encode its own `Computed`."""


def to_plain(value: PropertyValue) -> Any:
    """Return dicts, lists, texts, numbers, booleans; whole numbers as int."""
    inner = value.value
    if isinstance(inner, Mapping):
        return {name: to_plain(item) for name, item in inner.items()}
    if isinstance(inner, str) or inner is None or isinstance(inner, bool):
        return inner
    if isinstance(inner, Sequence):
        return [to_plain(item) for item in inner]
    assert isinstance(inner, float), type(inner)
    return int(inner) if inner.is_integer() else inner


def to_plain_map(values: Mapping[str, PropertyValue]) -> dict[str, Any]:
    """Convert each value to plain Python."""
    return {name: to_plain(value) for name, value in values.items()}


def to_property(value: Any) -> PropertyValue:
    """Convert back."""
    if isinstance(value, Mapping):
        return PropertyValue({name: to_property(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return PropertyValue([to_property(item) for item in value])
    if isinstance(value, int) and not isinstance(value, bool):
        return PropertyValue(float(value))
    return PropertyValue(value)


def to_property_map(values: Mapping[str, Any]) -> dict[str, PropertyValue]:
    """Convert each value back."""
    return {name: to_property(value) for name, value in values.items()}


def is_file(value: Any) -> bool:
    """Whether it is an asset or an archive as the server opens them: a map of `hash`, `path`, `assets`."""
    return isinstance(value, Mapping) and bool(value.get("isFile"))


def settle(value: Any) -> Any:
    """Return a value in compared form: a file becomes its hash."""
    if is_file(value):
        return value["hash"]
    if isinstance(value, Mapping):
        return {name: settle(item) for name, item in value.items()}
    if isinstance(value, list):
        return [settle(item) for item in value]
    return value
