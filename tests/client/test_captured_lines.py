"""Captured requests, read from all formats in which they may be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.client.captured_lines import CaptureError, Sample, lines_in, read_lines
from turnout.protocol.codecs.samples import write_line

SAMPLE = Sample(
    1790000000.5, "prod", "iris", "v1", False, "application/json", None, b'{"inputs":{"x":["\\"a"]}}', 200, 1.5
)
LINE = write_line(SAMPLE)
EVENT = json.dumps({"events": [{"message": f"{LINE.decode()}\n"}, {"message": f"{LINE.decode()}\n"}]}, indent=4)


def read(*lines: bytes) -> list[Sample]:
    return [sample for line in read_lines(lines) for sample in line.samples]


@pytest.mark.parametrize(
    "line",
    [
        LINE + b"\n",
        b"2026-11-23T02:00:00 2026/11/23/[$LATEST]0123 " + LINE + b"\r\n",
        b"EVENTS\t123\t1790000000\t" + LINE + b"\t1790000001\n",
        b'            "message": ' + json.dumps(LINE.decode() + "\n").encode() + b",\n",
    ],
    ids=["plain", "tail", "text", "json"],
)
def test_a_sample_is_found_anywhere_in_a_line(line: bytes) -> None:
    assert read(b"START RequestId: 1\n", line, b"\n") == [SAMPLE]


def test_all_samples_of_one_line_are_found() -> None:
    assert read(json.dumps(json.loads(EVENT)).encode()) == [SAMPLE, SAMPLE]
    assert read(*EVENT.encode().splitlines(keepends=True)) == [SAMPLE, SAMPLE]


def test_lines_are_numbered_and_measured() -> None:
    result = list(read_lines([b"noise\n", LINE + b"\n"]))
    assert [(line.number, line.size_bytes, len(line.samples)) for line in result] == [(1, 6, 0), (2, len(LINE) + 1, 1)]


def with_text(name: str, text: str) -> bytes:
    fields = json.loads(LINE)
    fields["turnout_capture"][name] = text
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (LINE[:-9], "Unterminated string|Expecting"),
        (b'{"turnout_capture": 7}', "must be an object"),
        (LINE.replace(b'"status":200', b'"status":"200"'), "`status` must be a whole number"),
        (LINE.replace(b'"canary":false', b'"canary":0'), "`canary` must be true or false"),
        *(
            (with_text(name, odd), "no control characters")
            for name in ("content_type", "stage", "model", "version")
            for odd in ("a\r\nX-Evil: 1", "a\n", "\r", "\0", "\x7f", "\u2028")
        ),
        (LINE.replace(b'"model":"iris",', b""), "`model` must be a string"),
        (LINE.replace(b'"body":{', b'"bodice":{'), "`body_base64` must be a string"),
        (b'{"turnout_capture":{"body_base64":"a"}}', "`time` must be a number"),
        (LINE.replace(b'"body":{', b'"body_base64":"a", "b":{'), "base64"),
        (LINE.replace(b'\\"a', b"\\ud800"), "`body`"),
        (b'{\\"turnout_capture\\"', "no string begins before it"),
        (LINE.replace(b'"body":', b'"body":' + b"[" * 100_000), "recursion|nest"),
        (b'\xff{"turnout_capture"', "utf-8"),
    ],
)
def test_an_unreadable_line_is_reported_with_its_number(line: bytes, problem: str) -> None:
    with pytest.raises(CaptureError, match=rf"line 3: .*({problem})"):
        read(LINE, b"", line)


@given(
    body=st.binary(),
    content_type=st.text(
        st.characters(codec="latin-1", exclude_characters="".join(map(chr, (*range(9), *range(10, 32), 127))))
    ),
    header_length=st.none() | st.integers(1, 10**9),
    status=st.integers(100, 599),
    canary=st.booleans(),
)
def test_a_written_sample_is_read_back(
    body: bytes, content_type: str, header_length: int | None, status: int, canary: bool
) -> None:
    sample = Sample(1.5, "prod", "iris", "v1", canary, content_type, header_length, body, status, 0.25)
    (result,) = read(write_line(sample))
    if result.body != body:  # JSON has been reformatted
        assert json.loads(result.body) == json.loads(body)
        sample = Sample(1.5, "prod", "iris", "v1", canary, content_type, header_length, result.body, status, 0.25)
    assert result == sample


def test_lines_added_during_a_replay_are_not_replayed(tmp_path: Path) -> None:
    """Otherwise a server that captures replayed requests would make the file endless."""
    path = tmp_path / "capture.jsonl"
    path.write_bytes(b"one\ntwo\n")
    with path.open("rb") as stream:
        lines = lines_in(stream, path.stat().st_size)
        assert next(lines) == b"one\n"
        with path.open("ab") as more:
            more.write(b"three\n")
        assert list(lines) == [b"two\n"]
