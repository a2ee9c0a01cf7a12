from __future__ import annotations

import subprocess
import sys

import pytest

from turnout.cli.commands.serve import check_otlp
from turnout.cli.output import CommandError
from turnout.gateway.shared.span_counts import SharedSpanCounts
from turnout.gateway.tracing.requests import method_of
from turnout.gateway.tracing.tracing import check_endpoint, find_url, make_resource


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example/tenant", "https://otel.example/tenant/v1/traces"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
    ],
)
def test_spans_are_sent_to_the_path_for_traces(endpoint: str, url: str) -> None:
    assert check_endpoint(endpoint) == ""
    assert find_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["h:4318", "ftp://h", "http:///", "http://h:99999", "http://u:p@h", "http://h b"])
def test_other_addresses_are_invalid(endpoint: str) -> None:
    assert "expected http://HOST:PORT" in check_endpoint(endpoint)


def test_the_command_line_rejects_invalid_addresses() -> None:
    with pytest.raises(CommandError, match="--otlp-endpoint: expected http://HOST:PORT or https://HOST:PORT") as caught:
        check_otlp("collector:4318")
    assert caught.value.code == 2
    check_otlp("")


def test_the_name_in_the_environment_overrides_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_resource({"service.name": "shop"}).attributes["service.name"] == "shop"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    result = make_resource({"service.name": "shop"}).attributes
    assert (result["service.name"], result["deployment.environment.name"]) == ("checkout", "prod")


def test_unknown_methods_are_recorded_as_other() -> None:
    assert (method_of("POST"), method_of("post"), method_of("X" * 5000)) == ("POST", "_OTHER", "_OTHER")


def test_the_counts_of_all_workers_are_added_and_one_of_them_warns() -> None:
    memory = memoryview(bytearray(SharedSpanCounts.size_of(2)))
    first, second = SharedSpanCounts(memory, workers=2), SharedSpanCounts(memory, workers=2)
    second.worker = 1
    first.count_exported(3)
    second.count_exported(4)
    second.count_dropped(5)
    assert (first.exported(), second.dropped()) == (7, 5)
    assert [first.note_failing(failing=True), second.note_failing(failing=True)] == [True, False]
    assert [second.note_failing(failing=False), first.note_failing(failing=False)] == [True, False]


def test_a_server_without_an_endpoint_does_not_import_opentelemetry() -> None:
    code = (
        "import sys, turnout.gateway.serve, turnout.gateway.workers.worker, turnout.cli.commands.serve\n"
        "from turnout.gateway.tracing_parts import open_tracing, TracingParts\n"
        "assert open_tracing('', 'shop', None) == TracingParts()\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
