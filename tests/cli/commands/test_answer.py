from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from turnout.cli.commands.answer import (
    ShownOutput,
    outputs_of,
    print_error_answer,
    say_answer,
    shape_of,
    summary_of,
    values_text,
)
from turnout.client.connection import ApiAnswer

SAID = {"x-turnout-model": "iris", "x-turnout-version": "v1", "x-turnout-digest": "5f1c", "x-turnout-canary": "true"}


def answer(body: Any, status: int = 200, headers: Mapping[str, str] = SAID) -> ApiAnswer:
    return ApiAnswer(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode(), 3.14159)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (
            {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]},
            [ShownOutput("y", "FP32", (1, 2), (1.0, 2.0))],
        ),
        (
            {"outputs": [{"name": "y", "datatype": "INT64", "shape": [2, 1], "data": [[1], [2]]}]},
            [ShownOutput("y", "INT64", (2, 1), (1, 2))],
        ),
        ({"outputs": {"y": [[1, 2]], "z": 3}}, [ShownOutput("y", "", (1, 2), (1, 2)), ShownOutput("z", "", (), (3,))]),
        ({"predictions": [[1, 2], [3, 4]]}, [ShownOutput("predictions", "", (2, 2), (1, 2, 3, 4))]),
        ({"predictions": [{"y": 1, "z": [2]}]}, [ShownOutput("y", "", (1,), (1,)), ShownOutput("z", "", (1, 1), (2,))]),
        ({"predictions": []}, [ShownOutput("predictions", "", (0,), ())]),
        ({}, []),
        ([1], []),
    ],
)
def test_every_form_of_an_answer_is_read(body: Any, outputs: list[ShownOutput]) -> None:
    assert list(outputs_of(body)) == outputs


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((), ""),
        ((0.98006791, 1e-7, 1.0), "0.980068, 1e-07, 1"),
        ((9007199254740993, True, None), "9007199254740993, true, null"),
        (("setosa", "\x1b[31m"), '"setosa", "\\u001b[31m"'),
        (("x" * 100,), f'"{"x" * 59}...'),
        (tuple(range(1000)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (1,000 values)"),
        (tuple(range(10)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
    ],
)
def test_values_are_short_and_counted(values: tuple[Any, ...], text: str) -> None:
    assert values_text(values) == text


@pytest.mark.parametrize(("nested", "shape"), [(1, ()), ([], (0,)), ([[1, 2, 3]], (1, 3)), ([[], []], (2, 0))])
def test_nested_lists_are_shown_with_their_shape(nested: Any, shape: tuple[int, ...]) -> None:
    assert shape_of(nested) == shape


def test_the_first_line_names_the_version_that_answered() -> None:
    assert summary_of(answer({})) == "iris v1 answered in 3.1 ms (HTTP 200, digest 5f1c, canary true)"
    assert summary_of(answer({}, headers={})) == "The server answered in 3.1 ms (HTTP 200)"


def test_an_answer_is_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    say_answer(answer({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 2.0]}]}))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "",
        "OUTPUT  DATATYPE  SHAPE  VALUES",
        "y       FP32      [1,2]  0.5, 2",
    ]


def test_a_truncated_answer_says_how_to_see_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    say_answer(answer({"outputs": {"y": list(range(11))}}))
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            answer({"error": "input `x` is missing", "code": "MISSING_INPUT", "details": {"input": "x"}}, 400),
            "turnout: HTTP 400 MISSING_INPUT: input `x` is missing\n",
        ),
        (
            answer({"message": "Too Many Requests"}, 429, {"x-amzn-errortype": "TooManyRequestsException"}),
            "turnout: HTTP 429 TooManyRequestsException: Too Many Requests\n",
        ),
        (answer(b"<html>\x1b bad gateway", 502, {}), "turnout: HTTP 502 Bad Gateway: <html>\\x1b bad gateway\n"),
        (answer([1], 500, {}), "turnout: HTTP 500 Internal Server Error: [1]\n"),
        (answer(b"", 599, {}), "turnout: HTTP 599\n"),
    ],
)
def test_an_error_is_shown_on_one_line(given: ApiAnswer, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error_answer(given)
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("MissingAuthenticationTokenException", "for an unknown path"), ("ForbiddenException", "--api-key")],
)
def test_errors_of_api_gateway_are_explained(kind: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error_answer(answer({"message": "Forbidden"}, 403, {"x-amzn-errortype": kind}))
    assert remedy in capsys.readouterr().err


def test_a_403_of_an_older_server_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    answer = ApiAnswer(
        403,
        {"x-amzn-errortype": "MissingAuthenticationTokenException"},
        b'{"message":"Missing Authentication Token"}',
        1.0,
    )
    print_error_answer(answer, is_listed=True)
    assert "the server runs an older models.yaml" in capsys.readouterr().err
    print_error_answer(answer)
    assert "check the names" in capsys.readouterr().err
