"""User name and password of an OCI registry: from the environment, or where `docker login` keeps them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.conversion.errors import ConversionError

USERNAME, PASSWORD = "OCI_USERNAME", "OCI_PASSWORD"
PATIENCE_S = 30.0

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
"""Docker Hub's key in config.json."""

TOKEN_USER = "<token>"  # noqa: S105 - the name that marks a token
"""The user name with which a helper returns an identity token. Source: docker/docker-credential-helpers."""


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """What a registry accepts.

    Args:
        username: the user's name.
        password: the password.
        origin: where both come from, for errors.
    """

    username: str
    password: str = field(repr=False)
    origin: str

    @property
    def header(self) -> str:
        """The value of `authorization`."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_login(host: str) -> RegistryLogin | None:
    """Return the login of a registry; None for an anonymous one.

    Raises:
        ConversionError: Docker's configuration cannot be read, or its program fails.
    """
    if name := os.environ.get(USERNAME):
        return RegistryLogin(name, os.environ.get(PASSWORD, ""), f"{USERNAME} and {PASSWORD}")
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    try:
        config: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read: {error}", f"Or set {USERNAME} and {PASSWORD}.") from error
    if not isinstance(config, dict):
        return None
    keys = (host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/", *((HUB_KEY,) if host == HUB else ()))
    helpers, entries = (config.get(name) or {} for name in ("credHelpers", "auths"))
    key = next((key for key in keys if key in entries), "")
    program = next((helpers[name] for name in keys if name in helpers), "") or (config.get("credsStore") if key else "")
    if program:
        return _ask(str(program), key or host, path)
    return _read(entries[key], path) if key else None


def _read(entry: Any, path: Path) -> RegistryLogin | None:
    """Return the login that config.json holds itself."""
    given: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    if not given.get("auth"):
        username = str(given.get("username") or "")
        return RegistryLogin(username, str(given.get("password", "")), str(path)) if username else None
    try:
        name, colon, password = base64.b64decode(str(given["auth"])).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise ConversionError(f"{path} has an `auth` that is not base64 of a name and a password", "Log in again.")
    return RegistryLogin(name, password.rstrip("\0"), str(path))


def _ask(program: str, key: str, path: Path) -> RegistryLogin | None:
    """Return the login that a program of Docker keeps."""
    command = f"docker-credential-{program}"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", program):
        raise ConversionError(f"{path} names an invalid program: {program[:40]!r}")
    try:
        done = subprocess.run(
            [command, "get"], input=key, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        given = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConversionError(
            f"{command}, which {path} names, failed: {type(error).__name__}", f"Or set {USERNAME} and {PASSWORD}."
        ) from None
    if not given.get("Username"):
        return None  # it has none for this registry
    if given["Username"] == TOKEN_USER:
        raise ConversionError(
            f"{command} keeps an identity token for {key}, which Turnout cannot use",
            f"Set {USERNAME} and {PASSWORD}.",
        )
    return RegistryLogin(str(given["Username"]), str(given.get("Secret", "")), command)
