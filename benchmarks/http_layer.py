"""Requests per second of the HTTP layer alone: a small JSON body is read and a fixed answer written, without a gateway.

Runs Turnout's server, a bare protocol of 25 lines (the best that httptools and uvloop can do) and, if it can be
imported, uvicorn's raw ASGI application, one process each, one after another in each round, with `wrk` as the client.
Prints medians and their ratios: ratios are valid on other machines, absolute figures are not. The server's processor
time per request (Linux only) is valid even if other work shares the machine.

    python benchmarks/http_layer.py [--seconds 3] [--rounds 3] [--clients 1 8 32] [--uvicorn-python PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}'
ANSWER = b'{"outputs":[{"name":"label","shape":[1],"datatype":"INT64","data":[0]}]}'
SERVERS = ("turnout", "bare", "uvicorn")


def serve_turnout(port: int) -> None:
    import orjson

    from tests.builders.http_service import run
    from turnout.http_server.messages import Request, Response

    def handle(request: Request) -> Response:
        orjson.loads(request.body)
        return Response(200, (("Content-Type", "application/json"),), ANSWER)

    run(handle, host="127.0.0.1", port=port)


def serve_bare(port: int) -> None:
    import httptools
    import orjson
    import uvloop

    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)
            self.body = b""

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_url(self, url: bytes) -> None:
            self.url = url

        def on_header(self, name: bytes, value: bytes) -> None:
            pass

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            orjson.loads(self.body)
            self.body = b""
            self.transport.write(head + ANSWER)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())


def serve_uvicorn(port: int) -> None:
    import orjson
    import uvicorn

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        orjson.loads(body)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="error",
    )  # fmt: skip


def pick_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not start")


def measure(name: str, python: str, script: Path, clients: list[int], seconds: int) -> dict[int, tuple[float, float]]:
    """Return requests per second and processor microseconds per request, by number of clients."""
    port = pick_port()
    server = subprocess.Popen([python, __file__, "--serve", name, "--port", str(port)])
    try:
        wait_until_up(port)
        rates = {}
        for count in clients:
            command = ["wrk", "-t1", f"-c{count}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/infer"]
            before_s = read_cpu_s(server.pid)
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            match = re.search(r"Requests/sec:\s+([\d.]+)", printed)
            if match is None or "Non-2xx" in printed:
                raise SystemExit(f"{name}: wrk printed\n{printed}")
            total = re.search(r"(\d+) requests in", printed)
            assert total is not None
            rates[count] = float(match[1]), (read_cpu_s(server.pid) - before_s) * 1e6 / int(total[1])
        return rates
    finally:
        server.terminate()
        server.wait(20)


def read_cpu_s(pid: int) -> float:
    """Return the processor seconds that a process has used; 0.0 if the system does not report them."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    used = path.read_text().rpartition(") ")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def find_peers(uvicorn_python: str) -> list[str]:
    probe = subprocess.run(
        [uvicorn_python, "-c", "import uvicorn, httptools, uvloop, orjson"], check=False, capture_output=True
    )
    if probe.returncode == 0:
        return list(SERVERS)
    print("uvicorn (with httptools, uvloop and orjson) cannot be imported: skipped; name one with --uvicorn-python")
    return [name for name in SERVERS if name != "uvicorn"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--uvicorn-python", default=sys.executable, help="an interpreter that can import uvicorn")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        {"turnout": serve_turnout, "bare": serve_bare, "uvicorn": serve_uvicorn}[arguments.serve](arguments.port)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on the PATH (apt-get install wrk)")
    names = find_peers(arguments.uvicorn_python)
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        body = BODY.decode().replace('"', '\\"')
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = "{body}"\nwrk.headers["Content-Type"] = "application/json"\n'
        )
        for _ in range(arguments.rounds):
            for name in names:
                python = arguments.uvicorn_python if name == "uvicorn" else sys.executable
                for count, pair in measure(name, python, script, arguments.clients, arguments.seconds).items():
                    measured.setdefault((name, count), []).append(pair)
    for index, title in enumerate(("requests/s", "processor us/request")):
        median = {key: statistics.median(pair[index] for pair in pairs) for key, pairs in measured.items()}
        print(title.ljust(22) + "".join(f"{count:>10} clients" for count in arguments.clients))
        for name in names:
            print(name.ljust(22) + "".join(f"{median[name, count]:>18,.1f}" for count in arguments.clients))
        for name in names[1:] if all(median.values()) else ():
            ratios = (median["turnout", count] / median[name, count] for count in arguments.clients)
            print(f"turnout / {name}".ljust(22) + "".join(f"{ratio:>18.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
