"""Schemas that API Gateway imports, and that describe what a version reads and returns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft4Validator

from tests.builders.manifests import artifacts_of, manifest, model, signatures
from turnout.artifacts.example_request import make_request
from turnout.manifest.parser import Model, Version
from turnout.openapi.document import Document, build_document, check_document
from turnout.openapi.tensor_schemas import describe_tensor, describe_tensors, element_schema
from turnout.plan.checks.size_estimates import DESCRIBED_TENSORS
from turnout.plan.planner import make_plan
from turnout.project.project import load_project
from turnout.protocol.naming import schema_name
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

KEYWORDS = {"type", "description", "required", "properties", "items", "enum", "minItems", "maxItems"}
"""Keywords of draft 4 that API Gateway accepts and that are used here; `format`, `oneOf`, `example` and others are
rejected.
"""


def walk(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schema and every schema in it."""
    yield schema
    for child in schema.get("properties", {}).values():
        yield from walk(child)
    if "items" in schema:
        yield from walk(schema["items"])


def document_of(tensors: Signature) -> Document:
    of = manifest((model(versions=("v1",)),))
    plan = make_plan(of, artifacts_of(of, {("iris", "v1"): tensors}))
    return build_document(plan, plan.apis[0])


def sample(root: Path) -> Document:
    project = load_project(root / "models.yaml", cache=False)
    plan = make_plan(project.manifest, project.artifacts)
    return build_document(plan, plan.apis[0], examples=project.first_requests)


def check_dialect(document: Document) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Za-z0-9]+", name)
        for part in walk(schema):
            assert set(part) <= KEYWORDS, (name, part)
            assert isinstance(part.get("type", ""), str)
        Draft4Validator.check_schema(schema)
        assert schema["type"] == "object"  # a response's schema must not be a primitive


@settings(max_examples=25, deadline=None)
@given(signatures())
def test_schemas_contain_only_what_api_gateway_accepts(tensors: Signature) -> None:
    check_dialect(document_of(tensors))


def test_sample_schemas_contain_only_what_api_gateway_accepts(root: Path) -> None:
    document = sample(root)
    check_dialect(document)
    check_document(document)


@pytest.mark.parametrize(
    "keyword",
    [
        "oneOf",
        "anyOf",
        "additionalProperties",
        "nullable",
        "example",
        "format",
        "exclusiveMinimum",
        "readOnly",
        "const",
    ],
)
def test_dialect_check_rejects_what_api_gateway_rejects(keyword: str) -> None:
    document = document_of(Signature((), (TensorSpec("y", "FP32", (1,)),)))
    document["components"]["schemas"]["IrisVv1Request"]["properties"]["inputs"][keyword] = {}
    with pytest.raises(AssertionError):
        check_dialect(document)


@settings(max_examples=25, deadline=None)
@given(signatures())
def test_request_made_from_a_signature_matches_its_schema(tensors: Signature) -> None:
    schemas = document_of(tensors)["components"]["schemas"]
    for name in ("IrisVv1Request", "IrisServedRequest"):
        Draft4Validator(schemas[name]).validate(make_request(tensors))


def test_sample_examples_match_their_schemas(root: Path) -> None:
    document = sample(root)
    checked = 0
    for path, item in document["paths"].items():
        if "post" not in item:
            continue
        content = item["post"]["requestBody"]["content"]["application/json"]
        examples = (
            [content["example"]] if "example" in content else [entry["value"] for entry in content["examples"].values()]
        )
        for example in examples:
            if isinstance(example.get("inputs"), list):
                name = content["schema"]["$ref"].rpartition("/")[2]
                Draft4Validator(document["components"]["schemas"][name]).validate(example)
                checked += 1
        assert examples, path
    assert checked


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ("name", "elsewhere"),
        ("datatype", "FP64"),
        ("shape", [1]),
        ("shape", ["1", "4"]),
        ("data", ["a", "b", "c", "d"]),
    ],
)
def test_schema_rejects_mismatches(change: str, wrong: object) -> None:
    tensors = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1,)),))
    validator = Draft4Validator(document_of(tensors)["components"]["schemas"]["IrisVv1Request"])
    request = make_request(tensors)
    assert validator.is_valid(request)
    request["inputs"][0][change] = wrong
    assert not validator.is_valid(request)


def test_tensor_names_are_values_and_descriptions_never_keys() -> None:
    name = 'a "b": {c} ünï/`0`:1'
    schema = document_of(Signature((TensorSpec(name, "FP32", (2,)),), (TensorSpec("y", "FP32", (1,)),)))["components"][
        "schemas"
    ][schema_name("iris", "v1", "Request")]
    assert schema["properties"]["inputs"]["items"]["properties"]["name"]["enum"] == [name]
    assert name in schema["description"]
    keys = {key for part in walk(schema) for key in part.get("properties", {})}
    assert keys == {"id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data"}


def test_shape_of_an_answer_is_described_but_not_fixed() -> None:
    schema = document_of(Signature((), (TensorSpec("y", "FP32", (1, 3)),)))["components"]["schemas"]["IrisVv1Response"]
    shape = schema["properties"]["outputs"]["items"]["properties"]["shape"]
    assert shape == {"type": "array", "items": {"type": "integer"}}
    assert "[1, 3]" in schema["description"]


def test_served_schema_lists_the_tensors_of_every_version() -> None:
    one = Signature((TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (1,)),))
    other = Signature((TensorSpec("z", "INT64", (1, 2)),), (TensorSpec("y", "FP32", (1,)),))
    of = manifest()
    plan = make_plan(of, artifacts_of(of, {("iris", "v1"): one, ("iris", "v2"): other}))
    schemas = build_document(plan, plan.apis[0])["components"]["schemas"]
    tensor = schemas["IrisServedRequest"]["properties"]["inputs"]["items"]["properties"]
    assert tensor["name"]["enum"] == ["x", "z"]
    assert tensor["datatype"]["enum"] == ["FP32", "INT64"]
    assert "minItems" not in tensor["shape"]
    assert schemas["IrisServedResponse"]["properties"]["model_version"]["enum"] == ["v1", "v2"]


@pytest.mark.parametrize(
    ("datatypes", "schema"),
    [
        (["FP32"], {"type": "number"}),
        (["INT64", "UINT8"], {"type": "integer"}),
        (["INT64", "FP16"], {"type": "number"}),
        (["BOOL"], {"type": "boolean"}),
        (["BYTES"], {"type": "string"}),
        (["BYTES", "FP32"], {}),
        ([], {}),
    ],
)
def test_element_type_is_common_to_the_datatypes(datatypes: list[str], schema: dict[str, str]) -> None:
    assert element_schema(datatypes) == schema


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_has_an_element_type(datatype: str) -> None:
    assert element_schema([datatype])["type"] in {"number", "integer", "boolean", "string"}


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (TensorSpec("x", "FP32", (-1, 4)), "`x` FP32 [-1, 4]"),
        (TensorSpec("x", "FP32", (-1, 4), ("batch", None)), "`x` FP32 [batch, 4]"),
        (TensorSpec("x", "FP32", (-1,), ("(a+b)*" * 20,)), "`x` FP32 [-1]"),
        (TensorSpec("x", "FP32", ()), "`x` FP32 []"),
        (TensorSpec("x", "BYTES", None), "`x` BYTES of any shape"),
        (TensorSpec("x", "FP32", (1,), required=False), "`x` FP32 [1], optional"),
        (TensorSpec("p", "FP32", (-1, 2), labels=("no", 1)), "`p` FP32 [-1, 2], a column per label: no, 1"),
    ],
)
def test_tensor_is_described_in_words(tensor: TensorSpec, text: str) -> None:
    assert describe_tensor(tensor) == text


def test_hundreds_of_inputs_are_described_briefly_required_ones_first() -> None:
    tensors = tuple(TensorSpec(f"w{number}", "FP32", (1,), required=number == 199) for number in range(200))
    text = describe_tensors(tensors)
    assert text.startswith("`w199` FP32 [1]; `w0`")
    assert text.endswith(f"and {200 - DESCRIBED_TENSORS} more")


def test_labels_are_described_up_to_a_limit() -> None:
    tensor = TensorSpec("p", "FP32", (-1, 500), labels=tuple(range(500)))
    assert describe_tensor(tensor).endswith(", 29, ...")


def test_transform_is_described_next_to_the_outputs() -> None:
    version = Version("iris", "v1", "a.onnx", transform="transform.py")
    of = manifest((Model("iris", (version,)),))
    plan = make_plan(of, artifacts_of(of))
    schema = build_document(plan, plan.apis[0])["components"]["schemas"]["IrisVv1Response"]
    assert "transform" in schema["description"]
