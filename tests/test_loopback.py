from __future__ import annotations

import pytest

from turnout.loopback import is_loopback, is_loopback_url


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "localhost", "LocalHost", "localhost.", "::ffff:127.0.0.1"],
)
def test_host_is_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert is_loopback_url(f"http://[{host}]:80" if ":" in host else f"http://{host}:80/path")


@pytest.mark.parametrize(
    "host", ["", "128.0.0.1", "10.0.0.1", "example.com", "localhost.example.com", "127.0.0.1.example.com", "::2"]
)
def test_host_is_another_machine(host: str) -> None:
    assert not is_loopback(host)
    assert not is_loopback_url(f"http://[{host}]:80" if ":" in host else f"http://{host}:80")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "127.1", "2130706433", "0x7f.1", "a.localhost", "a.LocalHost."])
def test_a_client_gets_to_this_machine_by_other_names_that_a_server_does_not_accept(host: str) -> None:
    assert is_loopback_url(f"http://{host}:80")
    assert not is_loopback(host.strip("[]"))


@pytest.mark.parametrize("host", ["10.1", "localhost.com", "notlocalhost", "8.8", "[::3]"])
def test_a_client_gets_to_another_machine(host: str) -> None:
    assert not is_loopback_url(f"http://{host}:80")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "http://[::1", "http://"])
def test_text_that_is_not_a_url_has_no_host(url: str) -> None:
    assert not is_loopback_url(url)
