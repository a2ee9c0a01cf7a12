"""The list of a stage's models, and of the API's other paths."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.gateway.docs.html import Html, prose, rich, table, tag
from turnout.gateway.docs.layout import PageFrame, address_of, make_page
from turnout.gateway.docs.shown import Shown, ShownStage
from turnout.openapi.document import INFO
from turnout.plan.auth import AUTH_TYPES

AUTH_SENTENCES = {
    "none": "No authentication.",
    "api_key": "Every request except health checks needs the header `x-api-key`. `turnout keys` prints the keys.",
    "iam": "Every request except health checks is signed with AWS Signature Version 4. `turnout keys STAGE` prints the "
    "access key.",
    "jwt": "Every request except health checks needs the header `authorization: Bearer TOKEN`.",
}
assert AUTH_SENTENCES.keys() == AUTH_TYPES.keys()


def make_index(shown: Shown, stage: ShownStage, frame: PageFrame, words: str) -> bytes:
    """Return the page.

    Args:
        shown: the content for the edition.
        stage: one of its stages.
        frame: frame of the page.
        words: only models whose name or description contains each of them.
    """
    name = stage.plan.name
    listed = list(_find_models(shown, words))
    count = sum(1 for _ in shown.models())
    sentence = f"{len(listed)} of {count} models" if words else f"{count} models" if count != 1 else "1 model"
    rows = [
        (
            tag("a", model, href=address_of(name, model)),
            _served(stage, model),
            versions or "graph",
            rich(description.partition("\n")[0]),
        )
        for model, description, versions in listed
    ]
    pages = (
        table(("Model", "Serves", "Versions", "Description"), rows, f"Models of {name}")
        if rows
        else tag("p", "No model matches. ", tag("a", "Show all", href=address_of(name)), ".")
    )
    return make_page(
        frame,
        name,
        tag("h1", f"Stage {name}"),
        tag("p", "Address: ", tag("code", f"{frame.base}/{name}"), ". ", rich(AUTH_SENTENCES[stage.plan.auth])),
        _filter(name, words),
        tag("p", sentence, role="status"),
        pages,
        tag("h2", "Other operations", id="operations"),
        table(("Operation", "What it does"), _other_rows(shown, stage), f"Other operations of {name}"),
        tag("h2", "Requests and responses", id="requests"),
        prose(INFO),
    )


def _find_models(shown: Shown, words: str) -> Iterator[tuple[str, str, int]]:
    wanted = words.lower().split()
    for model in shown.models():
        text = f"{model[0]} {model[1]}".lower()
        if all(word in text for word in wanted):
            yield model


def _served(stage: ShownStage, model: str) -> str:
    shares = stage.shares_of(model)
    return ", ".join(version if share == "served" else f"{version} {share}" for version, share in shares.items())


def _filter(stage: str, words: str) -> Html:
    return tag(
        "form",
        tag("label", "Filter models ", tag("input", type="search", name="q", value=words)),
        tag("button", "Filter", type="submit"),
        tag("a", "Show all", href=address_of(stage)) if words else None,
        action=address_of(stage),
        method="get",
        role="search",
        class_="filter",
    )


def _other_rows(shown: Shown, stage: ShownStage) -> Iterator[tuple[Html, Html]]:
    models = {model for model, _, _ in shown.models()}
    for operation in stage.operations.values():
        if operation.body["tags"][0] not in models:
            yield tag("code", f"{operation.method} {operation.path}"), rich(operation.body.get("summary", ""))
