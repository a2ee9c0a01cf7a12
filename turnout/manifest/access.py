"""Access to stages, as frozen values: `cors` and `consumers` of a stage, and `domain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cors:
    """The web pages that may call a stage from a browser.

    Args:
        origins: scheme, host and port of each; `*` alone is every origin.
        headers: headers that a page may send.
        methods: methods that a page may use.
        max_age_s: how long a browser may cache a preflight's answer.
        credentials: whether a page may send cookies and HTTP authentication.
    """

    origins: tuple[str, ...]
    headers: tuple[str, ...] = (
        "Authorization",
        "Content-Type",
        "Inference-Header-Content-Length",
        "Prefer",
        "x-api-key",
        "x-turnout-upload",
        "x-turnout-version",
    )
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    max_age_s: int = 600
    credentials: bool = False


def read_cors(fields: Mapping[str, Any]) -> Cors:
    """Return the `cors` of a stage in a checked tree."""
    readers = {"origins": tuple, "headers": tuple, "methods": tuple, "max_age_s": int, "credentials": bool}
    return Cors(**{key: read(fields[key]) for key, read in readers.items() if key in fields})


@dataclass(frozen=True, slots=True)
class RequestQuota:
    """The number of requests allowed in a `day`, a `week` or a `month`."""

    requests: int
    period: str


@dataclass(frozen=True, slots=True)
class Consumer:
    """A named caller of a stage.

    Args:
        name: its name in logs, metrics and captures.
        models: models that it may call; None for all of them.
        rate: requests per second over time, for each of its keys; 0 for no limit.
        burst: most requests at once.
        quota: quota of each of its keys, or None.
        expires: the day, UTC, from which on its keys are rejected; empty for never.
        keys: the names of its keys, one or two.
    """

    name: str
    models: tuple[str, ...] | None = None
    rate: float = 0.0
    burst: int = 0
    quota: RequestQuota | None = None
    expires: str = ""
    keys: tuple[str, ...] = ("k1",)

    @property
    def rules(self) -> dict[str, Any]:
        """The rules for `turnout.protocol.aws.callers.may_call`."""
        models = None if self.models is None else list(self.models)
        return {"caller": self.name, "models": models, "expires": self.expires}


def read_consumers(fields: Mapping[str, Mapping[str, Any]]) -> tuple[Consumer, ...]:
    """Return the `consumers` of a stage in a checked tree, in the file's order."""
    return tuple(_read_consumer(name, field) for name, field in fields.items())


def _read_consumer(name: str, fields: Mapping[str, Any]) -> Consumer:
    throttle, quota = fields.get("throttle", {}), fields.get("quota")
    return Consumer(
        name,
        tuple(fields["models"]) if "models" in fields else None,
        float(throttle.get("rate", 0)),
        int(throttle.get("burst", 0)),
        RequestQuota(int(quota["requests"]), quota["period"]) if quota is not None else None,
        fields.get("expires", ""),
        tuple(fields.get("keys", ("k1",))),
    )


@dataclass(frozen=True, slots=True)
class Domain:
    """One host name for every stage and API.

    Args:
        name: the host name.
        certificate_arn: ARN of its certificate; empty if only the local gateway serves it.
        hosted_zone_id: id of the zone for its record, or empty.
        base_path: prefix before the stage's name in every path; empty for none.
        tls_policy: API Gateway's security policy.
        create: whether the stack makes the domain.
        disable_execute_api: whether the APIs can be called only through the domain.
    """

    name: str
    certificate_arn: str = ""
    hosted_zone_id: str = ""
    base_path: str = ""
    tls_policy: str = "TLS_1_2"
    create: bool = True
    disable_execute_api: bool = False

    def path_of(self, stage: str = "") -> str:
        """Return the base path of a stage's mapping, or of the default stage's: `models-a/prod`."""
        return "/".join(filter(None, (self.base_path, stage)))

    def strip(self, path: str) -> str | None:
        """Return a path of this host without the base path; None if it is outside of it."""
        if not self.base_path:
            return path
        before = f"/{self.base_path}"
        if path == before:
            return "/"
        return path.removeprefix(before) if path.startswith(f"{before}/") else None


def read_domain(fields: Mapping[str, Any]) -> Domain:
    """Return the `domain` of a checked tree."""
    return Domain(**fields)
