"""Checks the values of a stack's configuration one by one and reports all problems together."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import pulumi

from turnout.wording import did_you_mean, listed

MOST_TAGS = 45
"""AWS allows 50 tags on a resource; Pulumi's default tags and AWS's own use some of them."""

_TAG = re.compile(r"[\w .:/=+@-]*")
_ROLE_PATH = re.compile(r"/([\w+=,.@-]+/)*")
_ARN = re.compile(r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]*):(\d{12}|aws|):(.+)")


class SettingValues:
    """Reads the keys of one namespace and collects the problems.

    Args:
        config: the namespace's configuration.
        given: the whole configuration, `turnout:log_groups` -> text.
        namespace: the namespace, `turnout`.
    """

    def __init__(self, config: pulumi.Config, given: Mapping[str, Any], namespace: str) -> None:
        self._config = config
        self._given = [key.removeprefix(f"{namespace}:") for key in given if key.startswith(f"{namespace}:")]
        self._namespace = namespace
        self._known: set[str] = set()
        self._wrong: list[str] = []

    def refuse(self, key: str, message: str) -> None:
        """Record that a key's value is invalid."""
        self._wrong.append(f"{self._namespace}:{key}: {message}")

    def finish(self) -> None:
        """Check that only known keys are set.

        Raises:
            pulumi.RunError: there are problems.
        """
        for key in self._given:
            name = key.partition(".")[0].partition("[")[0]
            if name in self._known:
                continue
            if similar := did_you_mean(name, self._known):
                self.refuse(key, f"unknown setting{similar}")
            else:  # a program that calls `deploy()` may have its own settings
                pulumi.warn(f"{self._namespace}:{key}: Turnout has no such setting")
        if self._wrong:
            raise pulumi.RunError("\n".join(self._wrong))

    def text(self, key: str) -> str:
        """Return a key's value, empty if it is not set."""
        self._known.add(key)
        return (self._config.get(key) or "").strip()

    def boolean(self, key: str) -> bool | None:
        """Return true or false; None if the key is not set."""
        value = self.text(key)
        if value not in {"", "true", "false"}:
            self.refuse(key, f"must be true or false, got {value!r}")
        return {"true": True, "false": False}.get(value)

    def integer(self, key: str, least: int, most: int, default: int) -> int:
        """Return an integer within a range."""
        value = self.text(key)
        if not value:
            return default
        if not re.fullmatch(r"-?\d+", value) or not least <= int(value) <= most:
            self.refuse(key, f"must be {least}-{most}, got {value}")
            return default
        return int(value)

    def choice_of_int(self, key: str, choices: Collection[int], default: int) -> int:
        """Return one of the allowed integers."""
        value = self.text(key)
        if value and value not in {str(choice) for choice in choices}:
            self.refuse(key, f"must be one of {', '.join(map(str, sorted(choices)))}, got {value}")
            return default
        return int(value) if value else default

    def choice(self, key: str, choices: Mapping[str, str], default: str) -> str:
        """Return the value that one of the allowed words stands for."""
        value = self.text(key) or default
        if value not in choices:
            self.refuse(key, f"must be one of {', '.join(choices)}, got {value!r}{did_you_mean(value, choices)}")
        return choices.get(value, choices[default])

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list: JSON, as `pulumi config set --path` writes it, or texts separated by commas."""
        value = self.text(key)
        if not value.startswith("["):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        try:
            parts = json.loads(value)
        except ValueError:
            parts = [None]
        if not all(isinstance(part, str) and part for part in parts):
            self.refuse(key, f"must be a list of strings, got {value}")
            return ()
        return tuple(parts)

    def ids(self, key: str, prefix: str, most: int) -> tuple[str, ...]:
        """Return AWS identifiers of one kind."""
        values = self.texts(key)
        for value in values:
            if not re.fullmatch(rf"{prefix}[0-9a-f]{{8,17}}", value):
                self.refuse(key, f"expected identifiers such as {prefix}0123456789abcdef0, got {value!r}")
        return self._few(key, values, most)

    def arn(self, key: str, service: str, noun: str, resource: str = ".+") -> str:
        """Return the ARN of a service's resource; `resource` is a regular expression for the last part."""
        value = self.text(key)
        if value:
            self._check_arn(key, value, service, noun, resource)
        return value

    def arns(self, key: str, service: str, noun: str, most: int) -> tuple[str, ...]:
        """Return a list of such ARNs."""
        values = self.texts(key)
        for value in values:
            self._check_arn(key, value, service, noun, r"[A-Za-z0-9_.-]+")
        return self._few(key, values, most)

    def networks(self, key: str) -> tuple[str, ...]:
        """Return CIDR blocks."""
        values = self.texts(key)
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError as error:
                self.refuse(key, f"expected CIDR blocks such as 203.0.113.0/24, got {value!r}: {error}")
        return values

    def role_path(self, key: str) -> str:
        """Return the path of roles."""
        value = self.text(key) or "/"
        if not _ROLE_PATH.fullmatch(value) or len(value) > 512:
            self.refuse(key, f"must start and end with a slash, such as /team/, got {value!r}")
        return value

    def tags(self, key: str) -> Mapping[str, str]:
        """Return a mapping of tags: JSON, as `pulumi config set --path` writes it."""
        value = self.text(key)
        if not value:
            return {}
        try:
            tags = json.loads(value)
        except ValueError:
            tags = None
        if not isinstance(tags, dict):
            self.refuse(key, f"must be a mapping: `pulumi config set --path {self._namespace}:{key}.team ml`")
            return {}
        for name, text in tags.items():
            if not isinstance(text, str | int | bool):
                self.refuse(key, f"{name}: must be a string, got {json.dumps(text)}")
            elif name.lower().startswith("aws:") or not 0 < len(name) <= 128 or len(str(text)) > 256:
                self.refuse(key, f"{name}: AWS takes keys of 1-128 characters without `aws:`, values of 0-256")
            elif not _TAG.fullmatch(name) or not _TAG.fullmatch(str(text)):
                self.refuse(key, f"{name}: AWS takes letters, digits, spaces and _ . : / = + - @ in tags")
        if len(tags) > MOST_TAGS:
            self.refuse(key, f"at most {MOST_TAGS} tags, got {len(tags)}")
        return {name: str(text).lower() if isinstance(text, bool) else str(text) for name, text in tags.items()}

    def _few(self, key: str, values: tuple[str, ...], most: int) -> tuple[str, ...]:
        if len(values) > most:
            self.refuse(key, f"AWS takes at most {most}, got {len(values)}")
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            self.refuse(key, f"names {listed(twice)} twice")
        return values

    def _check_arn(self, key: str, value: str, service: str, noun: str, resource: str) -> None:
        parts = _ARN.fullmatch(value)
        if parts is None or parts[2] != service or not re.fullmatch(resource, parts[5]):
            self.refuse(key, f"expected the ARN of {noun}, got {value!r}")
