from __future__ import annotations

import gzip
import hashlib
import json
import re

import pytest

from turnout.console.door import POLICY
from turnout.console.pages import FOLDER, answer_page, load_pages
from turnout.http_server.messages import Request

MOST_BYTES = 120_000


def ask(name: str, etag: str = "") -> Request:
    return Request("GET", f"/console/static/{name}", "", (("If-None-Match", etag),), b"")


def test_the_page_is_small() -> None:
    assert sum(len(page.packed) for page in load_pages().values()) < MOST_BYTES


def test_vendored_files_match_their_downloads() -> None:
    listed = json.loads((FOLDER / "vendor" / "vendor.json").read_text())
    files = {path.name for path in (FOLDER / "vendor").iterdir()} - {"vendor.json"}
    assert set(listed) == files
    for name, entry in listed.items():
        assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == entry["sha256"]
        assert entry["license"] in {"MIT", "Apache-2.0"}
        assert "@" in entry["from"]


def test_every_file_that_the_page_names_exists() -> None:
    pages = load_pages()
    named = re.findall(r'"/console/static/([^"]+)"', (FOLDER / "index.html").read_text())
    assert named
    assert set(named) <= set(pages)
    for path in FOLDER.rglob("*.js"):
        for target in re.findall(r"""from\s*['"]([^'"]+)['"]""", path.read_text()):
            result = (path.parent / target).resolve().relative_to(FOLDER).as_posix()
            assert result in pages, f"{path.name} imports {target}"


def test_the_page_contacts_no_other_host_and_runs_no_inline_script() -> None:
    for path in (*FOLDER.glob("*.js"), *FOLDER.glob("*.html"), *FOLDER.glob("*.css")):
        text = path.read_text()
        assert not re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE), f"{path.name} holds a merge conflict"
        hosts = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org"}
        assert hosts == set(), path.name
    html = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert " style=" not in html
    assert not re.search(r"\son\w+=", html)


def test_a_file_is_sent_with_policy_and_digest() -> None:
    answer = answer_page(ask("app.js"), "app.js")
    headers = dict(answer.headers)
    assert answer.status == 200
    assert headers["Content-Security-Policy"] == POLICY
    assert "'unsafe-inline'" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert gzip.decompress(answer.body) == (FOLDER / "app.js").read_bytes()
    again = answer_page(ask("app.js", headers["ETag"]), "app.js")
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "../door.py", "vendor/vendor.json", "/etc/passwd", "vendor/../app.js"]
)
def test_no_other_file_is_served(name: str) -> None:
    assert answer_page(ask(name), name).status == 404
