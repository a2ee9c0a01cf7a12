"""One model of a stage: each version's inputs and outputs, with runnable examples, errors, headers and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from turnout.artifacts.example_request import EXAMPLE_BYTES, count_request, make_request
from turnout.artifacts.examples import Example
from turnout.gateway.docs.answers import write_answer
from turnout.gateway.docs.code_examples import FILE, Call, write_curl, write_javascript, write_python
from turnout.gateway.docs.html import Child, Html, facts, join, prose, rich, table, tag
from turnout.gateway.docs.index_page import AUTH_SENTENCES
from turnout.gateway.docs.layout import PageFrame, address_of, make_page, try_address
from turnout.gateway.docs.shown import Shown, ShownOperation, ShownStage
from turnout.openapi.tensor_schemas import IMAGE_TEXT
from turnout.plan.values import ServedVersion
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES, LARGEST_EVENT_BYTES, LARGEST_REQUEST_BYTES
from turnout.protocol.naming import GRAPH
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

MOST_SECTIONS = 8
"""Versions that a model's page describes; with more, it describes those that the stage serves and links to the rest."""

MOST_EXAMPLES = 3
MOST_LABELS = 50
SHOWN_BYTES = 20_000
"""The longest answer that is shown completely."""


def make_model_page(shown: Shown, stage: ShownStage, frame: PageFrame, model: str, version: str = "") -> bytes:
    """Return the page of a model, or of one of its versions.

    Args:
        shown: the content for the edition.
        stage: one of its stages.
        frame: frame of the page.
        model: its name.
        version: describe only this one; empty describes all, or the served ones if there are many.
    """
    title = f"{model} {version}".rstrip()
    versions = shown.versions.get(model, [])
    shares = stage.shares_of(model)
    described = [
        described_version
        for described_version in versions
        if described_version.version.name == version
        or (not version and (len(versions) <= MOST_SECTIONS or described_version.version.name in shares))
    ]
    sections = [_version_section(shown, stage, frame, described_version, shares) for described_version in described]
    if model in shown.graphs:
        sections = [_graph_section(shown, stage, frame, model)]
    operation = stage.inference(model) or stage.inference(model, versions[0].version.name if versions else "")
    return make_page(
        frame,
        title,
        tag("h1", title),
        prose(shown.plan.descriptions.get(model, "")),
        _links(frame, model, version),
        _endpoints(stage, model, version),
        _list_versions(stage.plan.name, model, versions, described, shares) if len(versions) > 1 else join([]),
        join(sections),
        _describe_operation(stage, operation) if operation is not None else join([]),
        model=model,
    )


def _links(frame: PageFrame, model: str, version: str) -> Html:
    links = [tag("a", "All models", href=address_of(frame.stage))]
    if version:
        links.append(tag("a", f"All versions of {model}", href=address_of(frame.stage, model)))
    if frame.has_console:
        links.append(tag("a", "Try it in the console", href=try_address(model, version)))
    return tag("p", ((link, " ") for link in links), class_="actions")


def _endpoints(stage: ShownStage, model: str, version: str) -> Html:
    """Return the operation that leaves the version to the stage."""
    operation = None if version else stage.inference(model)
    if operation is None:
        return join([])
    chosen = ", ".join(f"{name} ({share})" for name, share in stage.shares_of(model).items() if name != GRAPH)
    return tag(
        "p",
        tag("code", f"{operation.method} /{stage.plan.name}{operation.path}"),
        f" calls the version that the stage chooses: {chosen}." if chosen else None,
    )


def _list_versions(
    stage: str, model: str, versions: list[ServedVersion], described: list[ServedVersion], shares: Mapping[str, str]
) -> Html:
    here = {described_version.version.name for described_version in described}
    is_described = any(described_version.version.description for described_version in versions)
    rows: list[tuple[Child, ...]] = [
        (
            tag("a", name, href=f"#{name}" if name in here else address_of(stage, model, name)),
            shares.get(name, "none"),
            *((rich(described_version.version.description.partition("\n")[0]),) if is_described else ()),
        )
        for described_version in versions
        for name in [described_version.version.name]
    ]
    headings = ("Version", "Share of the stage's calls", *(("Description",) if is_described else ()))
    return table(headings, rows, f"Versions of {model}")


def _version_section(
    shown: Shown, stage: ShownStage, frame: PageFrame, served: ServedVersion, shares: Mapping[str, str]
) -> Html:
    version = served.version
    name = version.name
    operation = stage.inference(version.model, name)
    share = shares.get(name)
    limits = {
        "Timeout": f"{version.timeout_s} s",
        "Memory": f"{version.memory_mb:,} MB",
        "Digest": tag("code", served.sha256[:12]),
        "Size": f"{served.size_bytes:,} bytes" if served.size_bytes else "",
        "Source": version.source.to_text() if version.source else "",
    }
    return tag(
        "section",
        tag("h2", f"{version.model} {name} ", tag("span", share, class_="badge") if share else None, id=name),
        prose(version.description),
        tag("p", tag("code", f"{operation.method} /{stage.plan.name}{operation.path}")) if operation else None,
        facts(limits),
        tag("p", "The transform may read other inputs and return other outputs.")
        if version.transform and not (version.inputs or version.outputs)
        else None,
        _tensors(served.signature.inputs, f"Inputs of {version.model} {name}", is_input=True),
        _tensors(served.signature.outputs, f"Outputs of {version.model} {name}"),
        _metadata(served.signature.metadata, f"{version.model} {name}"),
        _examples(shown, stage, frame, served, operation) if operation else None,
        aria_labelledby=name,
    )


def _graph_section(shown: Shown, stage: ShownStage, frame: PageFrame, model: str) -> Html:
    signature, operation = shown.graphs[model].signature, stage.inference(model)
    request = _graph_example(signature)
    return tag(
        "section",
        tag("h2", "Tensors", id=GRAPH),
        tag("p", f"{model} is a graph of other models. Its errors name the step that failed."),
        _tensors(signature.inputs, f"Inputs of {model}", is_input=True),
        _tensors(signature.outputs, f"Outputs of {model}"),
        _code(stage, frame, operation, request) if operation and request else None,
        aria_labelledby=GRAPH,
    )


def _tensors(tensors: tuple[TensorSpec, ...], caption: str, *, is_input: bool = False) -> Html:
    if not tensors:
        return tag("p", f"{caption}: not known, because the model's file is not on this machine.")
    rows: list[tuple[Child, ...]] = [
        (
            tag("code", tensor.name),
            tensor.datatype,
            tag("code", _spell_shape(tensor)),
            *(("yes" if tensor.required else "no",) if is_input else ()),
            _describe_values(tensor),
        )
        for tensor in tensors
    ]
    return table(("Name", "Datatype", "Shape", *(("Required",) if is_input else ()), "Values"), rows, caption)


def _spell_shape(tensor: TensorSpec) -> str:
    if tensor.shape is None:
        return "any"
    names = tensor.dimension_names or (None,) * len(tensor.shape)
    sizes = (name or "-1" if size < 0 else str(size) for size, name in zip(tensor.shape, names, strict=True))
    return f"[{', '.join(sizes)}]"


def _describe_values(tensor: TensorSpec) -> Child:
    if tensor.content:
        return IMAGE_TEXT
    if tensor.labels:
        labels = ", ".join(map(str, tensor.labels[:MOST_LABELS])) + (
            ", ..." if len(tensor.labels) > MOST_LABELS else ""
        )
        return f"a column per label: {labels}"
    datatype = DATATYPES[tensor.datatype]
    match datatype.kind:
        case "int":
            bits = 8 * datatype.size
            if bits == 64:
                return f"whole numbers of 64 bits{', 0 and more' if tensor.datatype.startswith('U') else ''}"
            low, high = (
                (0, 2**bits - 1) if tensor.datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            )
            return f"whole numbers, {low:,} to {high:,}"
        case "float":
            return join(["numbers, or ", tag("code", '"NaN"'), ", ", tag("code", '"Infinity"')])
        case "bool":
            return join([tag("code", "true"), " or ", tag("code", "false")])
        case _:
            return "texts"


def _metadata(metadata: Mapping[str, str], title: str) -> Html | None:
    """Return the model file's metadata, in which its author may describe units and meaning."""
    if not metadata:
        return None
    rows = [(name, value) for name, value in metadata.items()]
    return tag("details", tag("summary", "Metadata of the file"), table(("Key", "Value"), rows, f"Metadata of {title}"))


def _examples(
    shown: Shown, stage: ShownStage, frame: PageFrame, served: ServedVersion, operation: ShownOperation
) -> Iterator[Html]:
    version = served.version
    examples = shown.project.examples_of(version)
    if not examples:
        request = _document_example(operation)
        if request is not None:
            yield tag("h3", "Example")
            yield tag("p", "Made from the signature: the version has no examples.")
            yield _code(stage, frame, operation, request)
        return
    for number, example in enumerate(islice(examples, MOST_EXAMPLES)):
        yield tag("h3", f"Example: {example.name}", id=f"{version.name}-{number + 1}")
        if description := example.written.get("description"):
            yield prose(str(description))
        is_large = len(orjson.dumps(example.request)) > EXAMPLE_BYTES
        if is_large:
            file = address_of(stage.plan.name, version.model, version.name, f"{number + 1}.json")
            yield tag("p", "Save ", tag("a", "this request", href=file, download=FILE), f" as {FILE}.")
        yield _code(stage, frame, operation, None if is_large else example.request)
        yield from _answer(served, example)
    if len(examples) > MOST_EXAMPLES:
        rest = len(examples) - MOST_EXAMPLES
        path = f"/{stage.plan.name}/models/{version.model}/{version.name}"
        yield tag("p", f"{rest} more: ", tag("a", path, href=path), ".")


def _document_example(operation: ShownOperation | None) -> Mapping[str, Any] | None:
    """Return the request that the document shows for a version."""
    if operation is None:
        return None
    example: Mapping[str, Any] | None = operation.body["requestBody"]["content"]["application/json"].get("example")
    return example


def _graph_example(signature: Signature) -> Mapping[str, Any] | None:
    """Return a request that is short enough to read."""
    if not signature.outputs or 2 * count_request(signature) > EXAMPLE_BYTES:
        return None
    return make_request(signature)


def _code(stage: ShownStage, frame: PageFrame, operation: ShownOperation, request: Mapping[str, Any] | None) -> Html:
    call = Call(f"{frame.base}/{stage.plan.name}{operation.path}", stage.plan.auth, request)
    blocks = (("curl", write_curl(call)), ("Python", write_python(call)), ("JavaScript", write_javascript(call)))
    return join(
        tag(
            "details",
            tag("summary", name),
            tag("pre", tag("code", text), tabindex=0, aria_label=f"{name} example"),
            open=name == "curl",
            class_=name.lower(),
        )
        for name, text in blocks
        if text
    )


def _answer(served: ServedVersion, example: Example) -> Iterator[Html]:
    body = write_answer(served, example)
    if body is not None and len(body) <= SHOWN_BYTES:
        yield tag("p", f"Expected answer (floats within {example.tolerance.absolute:g}):")
        yield tag("pre", tag("code", body.decode()), class_="answer", tabindex=0, aria_label="Expected answer")
        return
    rows = [
        (
            tag("code", tensor.name),
            tensor.datatype,
            tag("code", str(list(tensor.shape))),
            tag("code", _spell_values(tensor.data)),
        )
        for tensor in example.outputs
    ]
    yield table(("Output", "Datatype", "Shape", "Values"), rows, f"Expected outputs of {example.name}")


def _spell_values(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")


def _describe_operation(stage: ShownStage, operation: ShownOperation) -> Iterator[Html]:
    body = operation.body
    yield tag("h2", "Request", id="request")
    yield prose(body["requestBody"]["description"])
    sent = [(tag("code", "content-type"), "`application/json` or `application/octet-stream`")]
    sent += [
        (tag("code", parameter["name"]), parameter["description"])
        for parameter in body["parameters"]
        if parameter["in"] == "header"
    ]
    yield table(("Header", "Meaning"), [(name, rich(text)) for name, text in sent], "Request headers")
    yield tag("p", rich(AUTH_SENTENCES[stage.plan.auth]))
    yield tag("h2", "Response", id="response")
    yield prose(body["responses"]["200"]["description"])
    headers = [
        (tag("code", name), rich(header["description"])) for name, header in body["responses"]["200"]["headers"].items()
    ]
    yield table(("Header", "Meaning"), headers, "Response headers")
    yield tag("h2", "Errors", id="errors")
    yield tag(
        "p",
        rich(
            'An error of the model is `{"error": sentence, "code": CODE, "details": {}}`; one of the gateway is '
            '`{"message": sentence}`.'
        ),
    )
    errors = [
        (status, rich(response["description"])) for status, response in body["responses"].items() if status != "200"
    ]
    yield table(("Status", "Meaning"), errors, "Errors")
    yield tag("h2", "Limits", id="limits")
    yield facts(_limits_of(stage))


def _limits_of(stage: ShownStage) -> dict[str, Child]:
    settings = stage.live()
    throttle = stage.plan.throttle if settings is None else settings.throttle
    event = f"{LARGEST_EVENT_BYTES:,} with the event around it, which is what Lambda receives"
    return {
        "Request body": f"{LARGEST_REQUEST_BYTES:,} bytes; {event}",
        "Response body": f"{LARGEST_BODY_BYTES:,} bytes",
        "Duration": "29 s",
        "Throttle": f"{throttle.rate:g} requests/s, bursts of {throttle.burst}" if throttle else "none",
    }
