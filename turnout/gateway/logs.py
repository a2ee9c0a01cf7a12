"""The program's own log, in addition to the access log: failures and their reasons."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TextIO

import orjson

from turnout.wording import printable_json, printable_lines


class TextFormatter(logging.Formatter):
    """Lines for users; messages quote models, so control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, with its traceback."""
        return printable_lines(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per record; a traceback is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return printable_json(orjson.dumps(line, default=str).decode())

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's
        """Return the time in UTC, with milliseconds."""
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


LOG_FORMATS: Mapping[str, logging.Formatter] = {
    "text": TextFormatter("%(levelname)s %(name)s: %(message)s"),
    "json": JsonFormatter(),
}
"""Format name -> formatter of records."""

SHOWN_LOGGERS = ("turnout.control", "turnout.environments", "turnout.printed")
"""Loggers shown at INFO: changes of stages, isolated functions' cold starts, and their output."""


def format_warning(log_format: str, logger: str, message: str) -> str:
    """Return a warning's line, without its line ending."""
    record = logging.LogRecord(logger, logging.WARNING, "", 0, message, None, None)
    return LOG_FORMATS[log_format].format(record)


def set_up_logs(log_format: str, stream: TextIO) -> None:
    """Send every warning and error to the stream, and everything of `SHOWN_LOGGERS`, without duplicates."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LOG_FORMATS[log_format])
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in SHOWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
