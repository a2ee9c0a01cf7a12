"""The peers' benchmark, with an API key in every request: Turnout's stage asks for one, the others ignore it.

Called by `serve_peers.py` with the Python that the peers' benchmark runs on; all arguments are its own. The benchmark
starts this file again in a namespace without a network, so what it needs besides comes in the environment.
"""

import os
import sys

sys.path.insert(0, os.environ["PEERS_BENCH"])

import bench  # type: ignore[import-not-found]
import peers  # type: ignore[import-not-found]

for headers in (peers.JSON, peers.BINARY):
    headers["x-api-key"] = os.environ["PEERS_KEY"]

if __name__ == "__main__":
    bench.main()
