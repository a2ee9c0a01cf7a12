"""The fuzzer's requests, and its detection of wrong answers."""

from __future__ import annotations

import random

import orjson
import pytest

from soak.cases import BINARY, LENGTH, Case, Cases, find_tags, make_tag, read_values
from soak.http_client import Answer
from soak.mutations import SERVICES, change_bytes, mutate
from soak.raw_cases import CASES, REFUSED


def answer(body: object, status: int = 200, **fields: str) -> Answer:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status, {name.replace("_", "-"): value for name, value in fields.items()}, content, b"")


def draw(count: int, seed: int = 1) -> list[Case]:
    cases = Cases(random.Random(seed), 3, "key")
    return [cases.draw() for _ in range(count)]


def test_tags_are_all_different_and_a_changed_one_is_invalid() -> None:
    tags = [make_tag(client, number) for client in range(4) for number in range(200)]
    assert len(set(tags)) == len(tags)
    text = " ".join(tags).encode()
    assert find_tags(text) == set(tags)
    assert find_tags(tags[0].replace("0", "1", 1).encode()) == set()
    assert find_tags(tags[0][:-1].encode()) == set()


def test_cases_have_every_route_and_form() -> None:
    cases = draw(1500)
    targets = {case.target.split("?")[0] for case in cases}
    assert {"/models/echo/inference", "/keyed/models/weighed/v2/inference", "/v2/models/chained/infer"} <= targets
    assert {"/health/ready", "/openapi.json", "/restapis", "/models", "/dev/models/count/v1/inference"} <= targets
    headers = {field for case in cases for field in case.headers}
    assert {("Content-Type", BINARY), ("Content-Encoding", "gzip"), ("x-api-key", "key")} <= headers
    assert {case.method for case in cases} == {"GET", "HEAD", "POST"}
    assert any(name == LENGTH for name, _ in headers)
    assert len({case.tag for case in cases}) == len(cases)


def test_answer_to_another_request_is_recognized() -> None:
    case = Case("soak1", "POST", "/x", values=(1.0, 2.5), shows_tag=True)
    right = {"id": "soak1", "outputs": [{"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5]}]}
    assert case.check(answer(right)) == ""
    assert "lacks" in case.check(answer({**right, "id": "soak2"}))
    assert "values" in case.check(answer({**right, "outputs": [{**right["outputs"][0], "data": [1, 2]}]}))  # type: ignore[dict-item]
    assert "status 404" in case.check(answer(right, 404))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"outputs": [{"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2.5]]}]}, {}),
        ({"outputs": {"y": [[1, 2.5]]}}, {}),
        ({"predictions": [[1, 2.5]]}, {}),
        ({"predictions": [{"y": [1, 2.5]}]}, {}),
        (b'{"a":1}\0\0\x80?\0\0 @', {"inference_header_content_length": "7"}),
    ],
)
def test_values_are_read_in_every_form(body: object, fields: dict[str, str]) -> None:
    assert read_values(answer(body, **fields)) == [1.0, 2.5]


def test_mutations_are_repeatable_and_change_requests_and_have_no_expected_answer() -> None:
    def mutated(seed: int) -> list[Case]:
        source = random.Random(seed)
        return [mutate(case, source) for case in draw(600)]

    assert mutated(1) == mutated(1)
    assert mutated(1) != mutated(2)
    pairs = list(zip(draw(600), mutated(1), strict=True))
    assert all(after.values is None and not after.shows_tag and after.tag == before.tag for before, after in pairs)
    assert sum(after.render() != before.render() for before, after in pairs) > 500
    for before, after in pairs:
        if before.target.startswith(SERVICES):
            assert (after.method, after.body) == (before.method, before.body)


def test_changed_bytes_differ() -> None:
    source = random.Random(3)
    data = bytes(range(100))
    assert sum(change_bytes(data, source) != data for _ in range(100)) > 95
    assert isinstance(change_bytes(b"", source), bytes)


def test_there_are_more_than_ninety_raw_cases_and_rejections_end_the_connection() -> None:
    assert len(CASES) > 90
    assert all(len(CASES[name].statuses) == 1 and CASES[name].statuses[0] >= 400 for name in REFUSED)
