"""The router's cold start: importing a library to call Lambda, and the first call with it.

Each library runs in fresh processes, one after another, alternately. The clock starts when the modules that
awslambdaric imports anyway (json, logging, http.client) are imported, and stops with the answer to a first, signed call
of a server on this machine, without TLS. Two more rows show what asyncio would add, and a router's whole code. Exits
with 1 if the router's own code takes a fifth of boto3's time or more.

    python benchmarks/router_cold_start.py [--times 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

COMMON = """
import base64, http.client, json, logging, os, sys, traceback, time
endpoint = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
event = {"body": "{}", "headers": {}}
started = time.perf_counter()
"""

ENDING = """
finished = time.perf_counter()
print(1000 * (imported - started), 1000 * (finished - imported))
"""

BY_HAND = """
from router_lambda.invoke import LambdaInvoke
from router_lambda.tasks import run_to_end
imported = time.perf_counter()
invoke = LambdaInvoke(endpoint, "eu-west-1")
answered = run_to_end(invoke("iris", "live", event, deadline_s=time.monotonic() + 9))
assert answered.answer == {"statusCode": 200}
"""

WAYS = {
    "by hand (http.client, Signature Version 4)": BY_HAND,
    "by hand, in asyncio's loop": BY_HAND.replace(
        "from router_lambda.tasks import run_to_end", "import asyncio\nrun_to_end = asyncio.run"
    ),
    "urllib3 + botocore's signer": """
import urllib3, botocore.auth, botocore.awsrequest, botocore.credentials
imported = time.perf_counter()
url = f"{endpoint}/2015-03-31/functions/iris%3Alive/invocations"
request = botocore.awsrequest.AWSRequest("POST", url, data=json.dumps(event).encode())
botocore.auth.SigV4Auth(botocore.credentials.Credentials("a", "b"), "lambda", "eu-west-1").add_auth(request)
response = urllib3.PoolManager().request("POST", url, body=request.data, headers=dict(request.headers))
assert json.loads(response.data) == {"statusCode": 200}
""",
    "botocore's client": """
import botocore.session
imported = time.perf_counter()
client = botocore.session.get_session().create_client("lambda", region_name="eu-west-1")
answer = client.invoke(FunctionName="iris", Qualifier="live", Payload=json.dumps(event))
assert json.loads(answer["Payload"].read()) == {"statusCode": 200}
""",
    "boto3's client": """
import boto3
imported = time.perf_counter()
answer = boto3.client("lambda").invoke(FunctionName="iris", Qualifier="live", Payload=json.dumps(event))
assert json.loads(answer["Payload"].read()) == {"statusCode": 200}
""",
    "a model's router, whole": """
from router_lambda.entry import run_to_end, Router, LambdaInvoke, ThreadTasks, RouteTable
imported = time.perf_counter()
model = {"variable": "iris", "versions": {"v1": [15, []]}, "sticky": None, "shadow": "", "shadow_percent": 0,
         "fallback": "", "graph": None}
table = RouteTable.from_json({"model": "iris", "models": {"iris": model}, "override_stages": []}, prefix="p")
router = Router(table, LambdaInvoke(endpoint, "eu-west-1"), tasks=ThreadTasks())
event["stageVariables"] = {"iris": "router", "irisRoute": "v1.100"}
assert run_to_end(router.answer(event, time.monotonic() + 9))["statusCode"] == 200
""",
    "a graph's router, whole (numpy)": """
import router_lambda.entry, router_lambda.graphs
imported = time.perf_counter()
""",
}


class InvokeApi(BaseHTTPRequestHandler):
    """Answers every call with a proxy response of status 200."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"statusCode": 200}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15, help="processes of each way, of which the median counts")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), InvokeApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.times + 1):
        for way, code in WAYS.items():
            run = [sys.executable, "-c", COMMON + code + ENDING]
            done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment, cwd=REPOSITORY)
            imports, call = map(float, done.stdout.split())
            measured[way].append((imports, call))
    server.shutdown()
    totals = {}
    print("| way | imports | client and first call | both |\n|---|---|---|---|")
    for way, times in measured.items():
        imports, call = (statistics.median(column) for column in zip(*times[1:], strict=True))  # the first run compiles
        totals[way] = statistics.median(map(sum, times[1:]))
        print(f"| {way} | {imports:.0f} ms | {call:.1f} ms | {totals[way]:.0f} ms |")
    raise SystemExit(totals["by hand (http.client, Signature Version 4)"] >= totals["boto3's client"] / 5)


if __name__ == "__main__":
    main()
