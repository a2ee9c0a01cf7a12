"""The program's own log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from turnout.gateway.logs import set_up_logs


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, restored afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def write(log_format: str) -> str:
    stream = io.StringIO()
    set_up_logs(log_format, stream)
    set_up_logs(log_format, stream)  # a second call adds nothing twice
    log = logging.getLogger("turnout.functions")
    log.info("not told")
    log.warning("%s waits", "f")
    try:
        int("odd")
    except ValueError:
        log.exception("f failed")
    return stream.getvalue()


def test_text_has_one_line_per_record_and_the_traceback(root_logger: logging.Logger) -> None:
    text = write("text")
    assert text.startswith("WARNING turnout.functions: f waits\nERROR turnout.functions: f failed\nTraceback")
    assert text.count("f waits") == 1


def test_json_has_one_object_per_record(root_logger: logging.Logger) -> None:
    warning, error = [json.loads(line) for line in write("json").splitlines()]
    assert (warning["level"], warning["logger"], warning["message"]) == ("WARNING", "turnout.functions", "f waits")
    assert warning["time"].endswith("Z")
    assert "ValueError: invalid literal" in error["traceback"]
    assert "traceback" not in warning
