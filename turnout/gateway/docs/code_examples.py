"""Writes a request as a command or program to copy and run: curl, Python's standard library, fetch."""

from __future__ import annotations

import pprint
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

FILE = "request.json"

KEY_VARIABLE = "TURNOUT_API_KEY"
TOKEN_VARIABLE = "TURNOUT_TOKEN"  # noqa: S105 - a variable's name


@dataclass(frozen=True, slots=True)
class Call:
    """A call to show in examples, and its authentication.

    Args:
        url: URL of the operation.
        auth: a key of `AUTH_TYPES`.
        request: the body; None if it is read from `request.json`, because it is too large to show.
    """

    url: str
    auth: str
    request: Mapping[str, Any] | None


def write_curl(call: Call) -> str:
    """Return a command for a POSIX shell."""
    lines = [f"curl -sS {shlex.quote(call.url)}", "-H 'content-type: application/json'", *_curl_auth(call.auth)]
    body = f"@{FILE}" if call.request is None else orjson.dumps(call.request).decode()
    return " \\\n  ".join([*lines, f"-d {shlex.quote(body)}"])


def _curl_auth(auth: str) -> list[str]:
    match auth:
        case "api_key":
            return [f'-H "x-api-key: ${KEY_VARIABLE}"']
        case "jwt":
            return [f'-H "authorization: Bearer ${TOKEN_VARIABLE}"']
        case "iam":
            return [
                '--aws-sigv4 "aws:amz:$AWS_REGION:execute-api"',
                '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"',
            ]
        case _:
            return []


def write_python(call: Call) -> str:
    """Return a program for Python's standard library; signed requests need botocore."""
    body = f'json.load(open("{FILE}"))'
    if call.request is not None:
        body = pprint.pformat(dict(call.request), width=100, sort_dicts=False, compact=True)
    auth = _python_auth(call.auth)
    imports = sorted({"import json", "import urllib.request", *(["import os"] if "os." in auth else [])})
    lines = [*imports, *_SIGNING_IMPORTS] if call.auth == "iam" else imports
    headers = f'{{"content-type": "application/json"{auth}}}'
    lines += ["", f"body = {body}"]
    if call.auth == "iam":
        lines += _sign(call.url)
        headers = "dict(signed.headers)"
        data = "signed.data"
    else:
        data = "json.dumps(body).encode()"
    lines += [
        "request = urllib.request.Request(",
        f"    {_text(call.url)},",
        f"    data={data},",
        f"    headers={headers},",
        ")",
        "with urllib.request.urlopen(request) as response:",
        "    print(json.dumps(json.load(response)))",
    ]
    return "\n".join(lines)


_SIGNING_IMPORTS = (
    "",
    "from botocore.auth import SigV4Auth",
    "from botocore.awsrequest import AWSRequest",
    "from botocore.session import Session",
)


def _sign(url: str) -> list[str]:
    return [
        "session = Session()",
        f'signed = AWSRequest("POST", {_text(url)}, {{"content-type": "application/json"}}, json.dumps(body))',
        'region = session.get_config_variable("region")',
        'SigV4Auth(session.get_credentials(), "execute-api", region).add_auth(signed)',
        "signed = signed.prepare()",
    ]


def _python_auth(auth: str) -> str:
    match auth:
        case "api_key":
            return f', "x-api-key": os.environ["{KEY_VARIABLE}"]'
        case "jwt":
            return f', "authorization": "Bearer " + os.environ["{TOKEN_VARIABLE}"]'
        case _:
            return ""


def write_javascript(call: Call) -> str:
    """Return a module for Node 18 and newer; empty if requests are signed, which Node does not support itself."""
    if call.auth == "iam":
        return ""
    auth = {
        "api_key": f", 'x-api-key': process.env.{KEY_VARIABLE}",
        "jwt": f", authorization: `Bearer ${{process.env.{TOKEN_VARIABLE}}}`",
    }.get(call.auth, "")
    imports = []
    if call.request is None:
        imports, body = ["import { readFileSync } from 'node:fs';"], f"readFileSync('{FILE}')"
    else:
        text = orjson.dumps(call.request).decode()
        # In an object literal, the key `__proto__` would set the object's prototype.
        body = _text(text) if '"__proto__"' in text else f"JSON.stringify({text})"
    return "\n".join(
        [
            *imports,
            f"const response = await fetch({_text(call.url)}, {{",
            "  method: 'POST',",
            f"  headers: {{ 'content-type': 'application/json'{auth} }},",
            f"  body: {body},",
            "});",
            "console.log(JSON.stringify(await response.json()));",
        ]
    )


def _text(value: str) -> str:
    """Return a literal that Python and JavaScript read alike."""
    return orjson.dumps(value).decode()
