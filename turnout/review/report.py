"""Writes the changes as text for a terminal, and as Markdown for a pull request's comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from turnout.review.changes import (
    AGREEMENT,
    BREAKING,
    COLD_START,
    CONTRACT,
    COST,
    DISAGREEMENT,
    KINDS,
    MEASURED,
    QUOTA,
    TRAFFIC,
    Change,
)

TITLES = {
    BREAKING: "Breaking for callers",
    DISAGREEMENT: "Answers that differ",
    CONTRACT: "Compatible for callers",
    TRAFFIC: "Traffic",
    AGREEMENT: "Agreement",
    QUOTA: "Quotas",
    COST: "Cost on AWS",
    COLD_START: "Cold starts",
    MEASURED: "Cold starts, measured on this machine",
}

MARKER = "<!-- turnout plan -->"
"""The text by which a workflow finds its own comment."""


def render_text(changes: Sequence[Change], ref: str) -> str:
    """Return the changes, a section for each kind."""
    if not changes:
        return f"Nothing changes compared with {ref}."
    return "\n".join([_summary(changes, ref), *_sections(changes, "\n{title}", "- {subject}: {text}.")])


def render_markdown(changes: Sequence[Change], ref: str) -> str:
    """Return the same as Markdown."""
    if not changes:
        return f"{MARKER}\n**Turnout**: nothing changes compared with `{ref}`."
    head = f"{MARKER}\n**Turnout**: {_summary(changes, f'`{ref}`')}"
    return "\n".join([head, *_sections(changes, "\n### {title}\n", "- **{subject}**: {text}", escaped=True)])


def _summary(changes: Sequence[Change], ref: str) -> str:
    breaking = sum(change.kind == BREAKING for change in changes)
    count = f"{len(changes)} change{'' if len(changes) == 1 else 's'} compared with {ref}"
    return f"{count}, {breaking} of them breaking for callers." if breaking else f"{count}, none breaks callers."


def _sections(changes: Sequence[Change], title: str, line: str, *, escaped: bool = False) -> Iterator[str]:
    for kind in KINDS:
        of_kind = [change for change in changes if change.kind == kind]
        if of_kind:
            yield title.format(title=TITLES[kind])
        for change in of_kind:
            subject, text = (
                (_escape(change.subject), _escape(change.text)) if escaped else (change.subject, change.text)
            )
            yield line.format(subject=subject, text=text)


def _escape(text: str) -> str:
    """Return a name from models.yaml that cannot become a link, an image or HTML in a comment."""
    for character in "\\[]<>*_|":
        text = text.replace(character, f"\\{character}")
    return text.replace("@", "@\u200b").replace("\n", " ")
