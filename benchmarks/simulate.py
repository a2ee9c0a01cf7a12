"""Lambda's cold starts and costs for 10 to 10,000 models, by simulation: one function each, shared routes, pools.

The simulation uses discrete events: requests arrive by a Poisson process, each for a model chosen with a probability
proportional to 1/rank. A function's environment serves one request at a time. A request takes the most recently used
free environment, as on Lambda; without one it waits for a cold start. An environment without a request for `idle_s`
ends.

- direct: each model is its own function.
- shared: the same behind the general router, which runs for as long as the call that it waits for.
- pool: 16 functions, each with every sixteenth model, behind the general router. An environment keeps as many sessions
  as fit into its memory. Another model is fetched from S3 and opened, and the least recently used session is closed.

`Parameters` contains every assumption with its source. The results are in docs/scaling.md.

    python benchmarks/simulate.py [--models 10,100,1000,10000] [--rates 1,10,100,1000] [--seconds 3600] [--seed 1]
"""

from __future__ import annotations

import argparse
import heapq
import random
from bisect import bisect
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

MILLION = 1_000_000
POOLS = 16


@dataclass(frozen=True)
class Parameters:
    """The assumptions about AWS and about the models.

    Args:
        run_s: a warm run of a model's function. An assumption: small models.
        model_init_s: a cold start with onnxruntime and numpy. Measured locally without Lambda's own part (imports 0.37
            s, first session 0.08 s: docs/performance.md), plus 0.25 s for the environment (an assumption).
        router_init_s: a cold start of the general router: 0.04 s of imports (docs/performance.md), 0.25 s as above.
        hop_s: the time that the router adds to a warm call: an Invoke within a region. An assumption.
        load_s: fetching a model of 2 MB from S3 and opening it: 0.05 s (an assumption) and 0.01 s (measured,
            docs/performance.md).
        idle_s: how long an environment waits for its next request. AWS does not publish this; others measured 5-7
            minutes (M. Shilkov, "Cold Starts in AWS Lambda", 2021).
        model_mb: memory of a model's function, and of a pool's function.
        router_mb: memory of the general router (turnout.plan.functions).
        sessions: most sessions in a pool's environment: 200 models of 2 MB, 4.2 MB each
            (turnout.gateway.shared.session_budget).
        api_million: dollars for a million requests to a REST API (docs/prices.md).
        lambda_million: dollars for a million calls of functions (docs/prices.md).
        gb_s: dollars for a GB-second on arm64 (docs/prices.md). Inits are billed like runs (since August 2025).
    """

    run_s: float = 0.010
    model_init_s: float = 0.70
    router_init_s: float = 0.29
    hop_s: float = 0.008
    load_s: float = 0.060
    idle_s: float = 360.0
    model_mb: int = 1024
    pool_mb: int = 1769
    router_mb: int = 512
    sessions: int = 200
    api_million: float = 3.50
    lambda_million: float = 0.20
    gb_s: float = 0.0000133334


@dataclass(slots=True)
class Environment:
    """One environment of a function; `loaded` lists the models of a pool, the most recently used one last."""

    free_at: float = 0.0
    loaded: OrderedDict[int, None] = field(default_factory=OrderedDict)


class SimulatedFunction:
    """The environments of one function."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._free: list[Environment] = []  # the most recently used one is last
        self._busy: list[tuple[float, int, Environment]] = []
        self._number = 0

    def take(self, now: float) -> tuple[Environment, bool]:
        """Return an environment for a request, and whether it starts cold."""
        while self._busy and self._busy[0][0] <= now:
            self._free.append(heapq.heappop(self._busy)[2])
        while self._free and self._free[0].free_at + self._idle_s < now:
            self._free.pop(0)
        if self._free:
            return self._free.pop(), False
        return Environment(), True

    def run(self, environment: Environment, until: float) -> None:
        """Keep an environment busy until this time."""
        environment.free_at = until
        self._number += 1
        heapq.heappush(self._busy, (until, self._number, environment))


@dataclass
class Outcome:
    """The result of a simulation."""

    seconds: list[float] = field(default_factory=list)
    cold: int = 0
    loads: int = 0
    gb_seconds: float = 0.0
    calls: int = 0

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the requests' times."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))] * 1000

    def million_dollars(self, parameters: Parameters) -> float:
        """Return the cost of a million requests."""
        lambdas = self.calls * parameters.lambda_million / MILLION + self.gb_seconds * parameters.gb_s
        return parameters.api_million + lambdas / len(self.seconds) * MILLION


def draw_requests(models: int, rate: float, seconds: float, seed: int) -> Iterator[tuple[float, int]]:
    """Yield time and model of each request."""
    draw = random.Random(seed)
    totals = list(accumulate(1 / rank for rank in range(1, models + 1)))
    now = draw.expovariate(rate)
    while now < seconds:
        yield now, min(bisect(totals, draw.random() * totals[-1]), models - 1)
        now += draw.expovariate(rate)


def simulate(design: str, models: int, rate: float, seconds: float, parameters: Parameters, seed: int = 1) -> Outcome:
    """Serve the requests of this number of seconds."""
    outcome = Outcome()
    router = SimulatedFunction(parameters.idle_s)
    functions: dict[int, SimulatedFunction] = {}
    for arrived, model in draw_requests(models, rate, seconds, seed):
        now, is_cold = arrived, False
        via = None
        if design != "direct":
            via, started = router.take(now)
            is_cold = started
            now += (parameters.router_init_s if started else 0.0) + parameters.hop_s
        key = model % POOLS if design == "pool" else model
        function = functions.setdefault(key, SimulatedFunction(parameters.idle_s))
        environment, started = function.take(now)
        is_cold = is_cold or started
        took = parameters.run_s + (parameters.model_init_s if started else 0.0)
        if design == "pool" and not _touch(environment, model, parameters.sessions):
            took += parameters.load_s
            outcome.loads += 1
        function.run(environment, now + took)
        memory = parameters.pool_mb if design == "pool" else parameters.model_mb
        outcome.gb_seconds += took * memory / 1024
        outcome.calls += 1
        if via is not None:
            router.run(via, now + took)
            outcome.gb_seconds += (now + took - arrived) * parameters.router_mb / 1024
            outcome.calls += 1
        outcome.seconds.append(now + took - arrived)
        outcome.cold += is_cold
    return outcome


def _touch(environment: Environment, model: int, most: int) -> bool:
    """Load a model in a pool's environment; return whether it was already loaded."""
    loaded = environment.loaded
    if model in loaded:
        loaded.move_to_end(model)
        return True
    if len(loaded) >= most:
        loaded.popitem(last=False)
    loaded[model] = None
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="10,100,1000,10000")
    parser.add_argument("--rates", default="1,10,100,1000", help="requests per second, of all models")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--most", type=int, default=300_000, help="requests of one simulation; it is shortened to that")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    parameters = Parameters()
    print("| models | requests/s | design | cold starts | loads | p50 ms | p99 ms | dollars per million |")
    print("|--:|--:|---|--:|--:|--:|--:|--:|")
    for models in map(int, arguments.models.split(",")):
        for rate in map(float, arguments.rates.split(",")):
            seconds = min(arguments.seconds, arguments.most / rate)
            for design in ("direct", "shared", "pool"):
                outcome = simulate(design, models, rate, seconds, parameters, arguments.seed)
                number = len(outcome.seconds)
                print(
                    f"| {models:,} | {rate:,g} | {design} "
                    f"| {outcome.cold / number:.2%} | {outcome.loads / number:.2%} "
                    f"| {outcome.percentile_ms(0.5):.0f} | {outcome.percentile_ms(0.99):.0f} "
                    f"| {outcome.million_dollars(parameters):.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
