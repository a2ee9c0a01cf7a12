"""The contents of a page of `/docs`: code examples with their answers, links, and text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Page:
    """A parsed page.

    Args:
        tags: the name of every element, in order.
        links: every `href`.
        ids: every `id`.
        blocks: class and text of each code block: `curl`, `python`, `javascript`, `answer`.
        text: the page's text.
        handlers: attributes that would run a script.
    """

    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    blocks: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    handlers: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[str]:
        return [text for name, text in self.blocks if name == kind]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._kind = ""
        self._in_block = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.page.tags.append(tag)
        self.page.links += [named["href"]] if "href" in named else []
        self.page.ids += [named["id"]] if "id" in named else []
        self.page.handlers += [name for name in named if name.startswith("on") or name == "style"]
        if tag == "details":
            self._kind = named.get("class", "")
        if tag == "pre":
            self._in_block = True
            self.page.blocks.append((named.get("class", "") or self._kind, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._in_block = False

    def handle_data(self, data: str) -> None:
        self.page.text += data
        if self._in_block:
            kind, text = self.page.blocks[-1]
            self.page.blocks[-1] = (kind, text + data)


def read_page(body: bytes) -> Page:
    reader = _Reader()
    reader.feed(body.decode())
    reader.close()
    return reader.page
