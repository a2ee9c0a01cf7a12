"""Packages that only some commands need: the extra that installs each, and the remedy if one is missing.

A plain installation can serve on this machine. `turnout[build]` adds packaging for Lambda, `turnout[aws]` access to
AWS, `turnout[otlp]` sending spans, `turnout[jwt]` checking tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from turnout.problems import TurnoutError


@dataclass(frozen=True, slots=True)
class Extra:
    """The extra that installs a package, and the requirement to install it alone; the same as in pyproject.toml."""

    name: str
    requirement: str


EXTRAS: Mapping[str, Extra] = {
    "boto3": Extra("aws", "boto3>=1.35"),
    "uv": Extra("build", "uv>=0.5"),
    "pyjwt": Extra("jwt", "pyjwt[crypto]>=2.8"),
    "opentelemetry-exporter-otlp-proto-http": Extra("otlp", "opentelemetry-exporter-otlp-proto-http>=1.35"),
}


class MissingPackageError(TurnoutError):
    """A package is not installed.

    Args:
        package: a key of `EXTRAS`.
        purpose: what needs it, as a sentence's subject: `a stage on AWS`.
    """

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed", install_hint(package))


def install_hint(package: str) -> str:
    """Return the remedy, which does not depend on how Turnout was installed."""
    extra = EXTRAS[package]
    return f"Install the extra turnout[{extra.name}], or run: pip install '{extra.requirement}'"
