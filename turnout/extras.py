"""Packages that only some commands need: which extra of Turnout brings them, and what to do where one is missing.

Serving on this machine is the smallest installation. `turnout[build]` adds what makes packages for Lambda,
`turnout[aws]` what speaks to AWS, `turnout[otlp]` what sends spans, `turnout[jwt]` what checks tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from turnout.problems import TurnoutError


@dataclass(frozen=True, slots=True)
class Extra:
    """Which extra brings a package, and the requirement to install it alone; the same as in pyproject.toml."""

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
    """The remedy, which does not depend on where Turnout came from."""
    extra = EXTRAS[package]
    return f"The extra turnout[{extra.name}] brings it; so does: pip install '{extra.requirement}'"
