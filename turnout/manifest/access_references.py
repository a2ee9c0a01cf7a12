"""Rules between the keys that define who may call a stage, and from where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import PurePosixPath

from turnout.manifest.schema import Finding
from turnout.manifest.tree import Tree, check_model, mapping, sequence
from turnout.protocol.aws.callers import OWNER
from turnout.protocol.aws.cors import ANY_ORIGIN, MOST_CHARACTERS, spell_origins
from turnout.wording import shorten
from turnout.yaml_text.reader import KeyPath

DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")

DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_access(tree: Tree, path: KeyPath, body: Tree) -> Iterator[Finding]:
    """Check the keys of the stage at `path` against each other."""
    yield from _check_cors((*path, "cors"), mapping(body.get("cors")))
    yield from _check_consumers(tree, (*path, "consumers"), body)
    yield from _check_keys(tree, path, mapping(body.get("jwt")))
    jwks = mapping(body.get("jwt")).get("jwks")
    if isinstance(jwks, str) and (jwks.startswith(("/", "~")) or ".." in PurePosixPath(jwks).parts):
        message = f'must be a path below this file\'s folder, got "{shorten(jwks)}"'
        yield Finding((*path, "jwt", "jwks"), message, "Copy or link the file into this folder.")


def _check_keys(tree: Tree, path: KeyPath, jwt: Tree) -> Iterator[Finding]:
    """Check that earlier stages read the keys of the same issuer from the same place."""
    for name, other in mapping(tree.get("stages")).items():
        if name == path[-1]:
            return
        earlier = mapping(mapping(other).get("jwt"))
        if jwt and earlier and earlier.get("issuer") == jwt.get("issuer") and earlier.get("jwks") != jwt.get("jwks"):
            message = f"stage {name} reads the keys of the same issuer from another place"
            yield Finding((*path, "jwt"), message, "Set the same `jwks` in both stages, or in neither.")
            return


def _check_consumers(tree: Tree, path: KeyPath, body: Tree) -> Iterator[Finding]:
    if "consumers" in body and body.get("auth", "none") != "api_key":
        yield Finding(path, "require `auth: api_key`", "Set `auth: api_key`, or delete them.")
    for name, value in mapping(body.get("consumers")).items():
        fields = mapping(value)
        if name == OWNER:
            yield Finding((*path, name), f"`{OWNER}` is a reserved word", "Rename the consumer.")
        for index, model in enumerate(sequence(fields.get("models"))):
            if isinstance(model, str):
                yield from check_model(tree, (*path, name, "models", index), model)
        expires = fields.get("expires")
        if isinstance(expires, str) and DAY.fullmatch(expires) and not _is_day(expires):
            yield Finding((*path, name, "expires"), f"there is no day {expires}", "Use the last day of the month.")


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_cors(path: KeyPath, cors: Tree) -> Iterator[Finding]:
    origins = [origin for origin in sequence(cors.get("origins")) if isinstance(origin, str)]
    if ANY_ORIGIN in origins and len(origins) > 1:
        yield Finding(
            (*path, "origins"), "`*` allows every origin, so it must be alone", "Delete `*`, or all other origins."
        )
    if ANY_ORIGIN in origins and cors.get("credentials") is True:
        yield Finding(
            (*path, "credentials"),
            'cannot be true with `origins: ["*"]`: every web page could call with its visitor\'s credentials',
            "Name the origins, or delete `credentials`.",
        )
    if "*" in sequence(cors.get("headers")) and cors.get("credentials") is True:
        yield Finding((*path, "headers"), "`*` is not a wildcard with `credentials: true`", "Name the headers.")
    for index, origin in enumerate(sequence(cors.get("origins"))):
        scheme, _, host = origin.partition("://") if isinstance(origin, str) else ("", "", "")
        if host.endswith(f":{DEFAULT_PORTS.get(scheme, '-')}"):
            hint = f"Write {scheme}://{host.rpartition(':')[0]}."
            yield Finding((*path, "origins", index), "names the default port, which browsers leave out", hint)
    size = len(spell_origins(origins))
    if size > MOST_CHARACTERS:
        yield Finding(
            (*path, "origins"),
            f"the origins have {size} characters together, at most {MOST_CHARACTERS} are allowed: functions read them "
            "from a stage variable",
            "Name fewer origins.",
        )
