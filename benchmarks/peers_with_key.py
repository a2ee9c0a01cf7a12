"""The peers' benchmark with an API key in every request: Turnout's stage requires it, the others ignore it.

`serve_peers.py` runs this file with the Python of the peers' benchmark and passes all arguments on. The benchmark
starts the file again in a network namespace, so further settings are passed as environment variables.
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
