"""One function and its environments: running, free, waiting and idle ones.

All state belongs to the event loop.

Environments are started on demand and used last in, first out, so that surplus ones become idle and are ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.gateway.functions.invocation import Invocation, title_of
from turnout.gateway.functions.isolated.environment import Environment, Sidecar, no_sidecar
from turnout.gateway.functions.isolated.limits import EnvironmentLimits, Slots
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.gateway.functions.isolated.runtime_api import RuntimeApi, RuntimeCall
from turnout.gateway.functions.isolated.warden_client import ProcessGuard
from turnout.gateway.functions.waiting_time import GRACE_S, MOST_GRACED, WaitingTime
from turnout.gateway.shared.session_budget import SessionBudget

log = logging.getLogger("turnout.environments")
printed = logging.getLogger("turnout.printed")
"""The logger of functions' output, at level INFO."""

INIT_S = 10.0
"""Lambda's time limit for an init; a longer one continues for as long as a call may take."""

RETRIES_S = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0)
"""Waiting times after consecutive failed inits, because starting uses a processor. The first retry is immediate, as on
Lambda, and no caller notices.
"""

LOOK_AFTER_S = 0.005
"""After a call that took longer than this, its process's memory is checked before the answer is sent, because the
process may have allocated and freed memory between two checks of the warden. A check takes 20 us.
"""

REAPS_PER_IDLE = 4

LEAVING_S = 0.5
"""Time between a process closing its connection and its end."""


IDLE = "idle"
RETIRED = "retired"
"""Reasons for an end that are not logged: no call for a long time, or another edition is served."""


ENVIRONMENT_BYTES = 100 * 1024 * 1024
"""The expected memory of an environment before one of its function has run: Python, numpy and onnxruntime."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptEnvironment:
    """An environment that is ended when it is idle and memory is short; see `session_budget.Evictable`."""

    function: IsolatedFunction
    environment: Environment

    @property
    def used_s(self) -> float:
        """The time of its last call."""
        return self.environment.since

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a call."""
        return self.function.is_free(self.environment)

    def evict(self) -> None:
        """End it; the next call starts another."""
        self.function.end_idle(self.environment)


class IsolatedFunction:
    """One function of the plan.

    Args:
        code: the code that its environments run.
        limits: limits of its environments.
        guard: monitors their memory.
        slots: its reserved concurrency, None if it has none.
        beside: serves something to each environment.
        budget: ends idle environments when memory is short, or None.
    """

    def __init__(
        self,
        code: FunctionCode,
        limits: EnvironmentLimits,
        guard: ProcessGuard,
        slots: Slots | None = None,
        beside: Sidecar = no_sidecar,
        budget: SessionBudget | None = None,
    ) -> None:
        self.function = code.function
        self._budget = budget
        self._kept: dict[Environment, KeptEnvironment] = {}
        self._usual_bytes = ENVIRONMENT_BYTES
        self.code = code
        self._limits = limits
        self._guard = guard
        self._slots = slots
        self._beside = beside
        self._name = title_of(code.function)
        self._arns: dict[str, bytes] = {}
        self._environments: dict[RuntimeApi, Environment] = {}
        self._free: list[Environment] = []  # idle environments that wait for an event, the most recently used one last
        # environments that have answered and will ask for an event in a moment
        self._returning: dict[Environment, None] = {}
        self._waiting: OrderedDict[RuntimeCall, None] = OrderedDict()
        self._starting = 0
        self._runs = 0  # number of asynchronous runs
        self._waiting_time = WaitingTime()
        self._graced = 0
        self._failures = 0
        self._retry_at = 0.0
        self._reason = ""
        self._lives: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._loading: list[asyncio.Future[str]] = []
        self._is_retired = False

    @property
    def environments(self) -> int:
        """The number of environments, starting ones included."""
        return len(self._environments)

    @property
    def running(self) -> int:
        """The number of running calls."""
        return sum(api.call is not None for api in self._environments)

    @property
    def waiting(self) -> int:
        """The number of calls that wait for an environment."""
        return len(self._waiting)

    @property
    def _most_environments(self) -> int:
        """Return the limit of synchronous calls, which keep their environments, plus one for each asynchronous run.

        A surplus environment after a run stays until it is idle: ending it would make the next call wait for an init.
        """
        return self._limits.environments + self._runs

    # The methods that the gateway uses.

    def invoke(self, alias: str, event: Mapping[str, Any], timeout_s: float) -> Invocation | asyncio.Future[Invocation]:
        """Run in a free environment, or in the first one that becomes free or starts."""
        if self._slots is not None and not self._slots.take():
            message = f"{self.function.name}: as many calls run as its reserved concurrency allows"
            return Invocation(None, "throttled", message)
        if len(self._waiting) >= self._limits.waiting:
            self._give_slot()
            return Invocation(
                None, "throttled", f"{self.function.name}: {len(self._waiting)} calls are already waiting"
            )
        loop = asyncio.get_running_loop()
        # As on Lambda, the time that an init takes does not count against the function's timeout.
        own_s = self.function.settings.timeout_s + (0 if self._is_ready() else INIT_S)
        remaining_s = min(timeout_s, own_s)
        is_hopeless = self._is_hopeless(remaining_s)
        if is_hopeless and self._graced >= MOST_GRACED:
            self._give_slot()
            return self._refuse_for_waiting()
        call = RuntimeCall(self._arn(alias), event, loop.time() + remaining_s, remaining_s)
        call.timer = loop.call_at(call.deadline, self._expire, call)
        self._runs += call.is_asynchronous
        if self._free:
            self._assign(self._free.pop(), call)
        elif self._returning:
            self._assign(self._returning.popitem()[0], call)
        else:
            self._waiting[call] = None
            call.future.add_done_callback(lambda future: self._caller_left(call) if future.cancelled() else None)
            if is_hopeless:
                call.kept_until = loop.time() + GRACE_S
                self._graced += 1
                loop.call_later(GRACE_S + 0.001, self._end_grace)
            self._start_for_waiting()
        return call.future

    def load(self) -> asyncio.Future[str]:
        """Start an environment if there is none; the future contains the reason of a failed init, or nothing."""
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[str] = loop.create_future()
        if len(self._environments) > self._starting:
            loaded.set_result("")
            return loaded
        self._loading.append(loaded)
        if not self._starting:
            self._start()
        return loaded

    def retire(self) -> None:
        """Accept no more calls, and end each environment when its last call has ended."""
        self._is_retired = True
        for environment in tuple(self._environments.values()):
            if environment.api.call is None and not self._waiting:
                self._withdraw(environment)
                environment.kill(RETIRED)

    def close(self) -> None:
        """End every environment immediately; for use after the event loop has ended."""
        for environment in self._environments.values():
            environment.close()

    def is_free(self, environment: Environment) -> bool:
        """Whether an environment waits for a call."""
        return environment in self._free

    def end_idle(self, environment: Environment) -> None:
        """End an environment that waits for a call."""
        self._withdraw(environment)
        environment.kill(IDLE)

    # Reported by environments.

    def ready(self, api: RuntimeApi) -> None:
        """An environment waits for an event."""
        environment = self._environments.get(api)
        if environment is None or environment.reason:
            return
        if environment in self._returning:
            del self._returning[environment]
        else:
            self._started(environment)
        call = self._next_call()
        if call is not None:
            self._assign(environment, call)
        elif self._is_retired:
            environment.kill(RETIRED)
        else:
            self._free.append(environment)

    def answered(self, api: RuntimeApi, call: RuntimeCall, invocation: Invocation) -> None:
        """A call has ended, and its environment will soon ask for the next."""
        environment = self._environments.get(api)
        if environment is None:
            return
        now = asyncio.get_running_loop().time()
        if now - environment.since > LOOK_AFTER_S and (reason := environment.check_memory()):
            environment.kill(reason)
            self._settle(call, Invocation(None, "failed", f"{self.function.name}: {reason}"))
            return
        self._waiting_time.learn(now - environment.since)
        environment.since = now
        self._settle(call, invocation)
        self._refuse_hopeless(now)
        following = self._next_call()
        if following is None:
            self._returning[environment] = None
        else:
            self._assign(environment, following)

    def left(self, api: RuntimeApi) -> None:
        """An environment no longer waits: wait briefly for its process, so that its exit status can be reported."""
        environment = self._environments.get(api)
        if environment is not None:
            self._withdraw(environment)
            asyncio.get_running_loop().call_later(LEAVING_S, environment.kill, "it has left the Runtime API; killed")

    def broken(self, api: RuntimeApi, reason: str) -> None:
        """An environment is no longer usable."""
        environment = self._environments.get(api)
        if environment is not None:
            self._withdraw(environment)
            environment.kill(reason)

    # Calls.

    def _arn(self, alias: str) -> bytes:
        arn = self._arns.get(alias)
        if arn is None:
            name = f"arn:aws:lambda:local:000000000000:function:{self.function.name}:{alias}"
            arn = self._arns[alias] = name.encode()
        return arn

    def _next_call(self) -> RuntimeCall | None:
        while self._waiting:
            call, _ = self._waiting.popitem(last=False)
            if not call.future.done():
                return call
        return None

    def _is_hopeless(self, remaining_s: float) -> bool:
        """Whether a new call would wait past its deadline."""
        busy = len(self._environments) - self._starting
        if self._free or self._returning or busy < self._most_environments:
            return False
        return self._waiting_time.is_hopeless(len(self._waiting), busy, remaining_s)

    def _refuse_hopeless(self, now: float) -> None:
        """Reject calls at the end of the queue that will not be answered in time."""
        waiting, busy = self._waiting, len(self._environments) - self._starting
        if busy < self._most_environments:
            return
        for call in self._waiting_time.find_hopeless(reversed(waiting), len(waiting), busy, now):
            self._settle(call, self._refuse_for_waiting())
            del waiting[call]

    def _end_grace(self) -> None:
        self._graced -= 1
        self._refuse_hopeless(asyncio.get_running_loop().time())

    def _refuse_for_waiting(self) -> Invocation:
        message = (
            f"{self.function.name}: {len(self._waiting)} calls are already waiting, too many to be answered in time"
        )
        return Invocation(None, "throttled", message)

    def _assign(self, environment: Environment, call: RuntimeCall) -> None:
        environment.since = asyncio.get_running_loop().time()
        environment.api.assign(call)

    def _settle(self, call: RuntimeCall, invocation: Invocation) -> None:
        """Give the caller the result, once; `call.timer` is None afterwards."""
        if call.timer is None:
            return
        call.timer.cancel()
        call.timer = None
        self._runs -= call.is_asynchronous
        self._give_slot()
        if not call.future.done():
            call.future.set_result(invocation)

    def _caller_left(self, call: RuntimeCall) -> None:
        """A caller disconnected: its call leaves the queue. A running call continues, as on Lambda."""
        if self._waiting.pop(call, call) is None:
            self._settle(call, Invocation(None, "timed_out", "its caller disconnected"))

    def _give_slot(self) -> None:
        if self._slots is not None:
            self._slots.give()

    def _expire(self, call: RuntimeCall) -> None:
        """A call's time is over, whether or not its caller still waits."""
        waited = self._waiting.pop(call, call) is None
        doing = "waited" if waited else "ran"
        self._settle(call, Invocation(None, "timed_out", f"{self.function.name}: the call {doing} past its time limit"))
        if not waited:
            for environment in tuple(self._environments.values()):
                if environment.api.call is call:
                    self._withdraw(environment)
                    environment.kill("Sandbox.Timedout: a call ran past its time limit; killed")

    # Environments.

    def _start_for_waiting(self) -> None:
        """Start one environment for each waiting call, within the limit."""
        if not self._waiting:
            return
        if asyncio.get_running_loop().time() < self._retry_at:
            if not self._environments:
                self._fail_waiting(self._reason)
            return
        while self._starting < len(self._waiting) and len(self._environments) < self._most_environments:
            self._start()

    def _start(self) -> None:
        environment = Environment(self.code, self, self._guard, self._notify, self._beside)
        if self._budget is not None:
            kept = self._kept[environment] = KeptEnvironment(self, environment)
            self._budget.begin(kept, self._usual_bytes)
        self._environments[environment.api] = environment
        self._starting += 1
        life = asyncio.get_running_loop().create_task(self._live(environment))
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        self._schedule_reap()

    async def _live(self, environment: Environment) -> None:
        """Run an environment from its start to its end, and handle the consequences for callers."""
        try:
            ending = await environment.live()
        except asyncio.CancelledError:
            self._forget(environment)
            raise
        except Exception as error:
            log.exception("%s: an environment could not be kept", self._name)
            ending = f"{type(error).__name__}: {error}"
        self._ended(environment, ending)

    def _started(self, environment: Environment) -> None:
        now = asyncio.get_running_loop().time()
        log.info("%s: init %.0f ms", self._name, (now - environment.since) * 1000)
        environment.since = now
        self._starting -= 1
        self._failures = 0
        self._retry_at = 0.0
        self._limit_waiting(now)
        self._end_loading("")

    def _is_ready(self) -> bool:
        """Whether an environment has started and may get a call, now or later."""
        if self._free or self._returning:
            return True
        return any(environment.api.started and not environment.reason for environment in self._environments.values())

    def _limit_waiting(self, now: float) -> None:
        """Start the function's own timeout for the calls that waited for an init."""
        latest = now + self.function.settings.timeout_s
        for call in self._waiting:
            if call.deadline > latest and call.timer is not None:
                call.timer.cancel()
                call.limit(latest, self.function.settings.timeout_s)
                call.timer = asyncio.get_running_loop().call_at(latest, self._expire, call)

    def _ended(self, environment: Environment, ending: str) -> None:
        call = environment.api.call
        self._forget(environment)
        if not environment.api.started:
            if environment.reason == RETIRED:
                self._starting -= 1
                self._end_loading(RETIRED)
            else:
                self._init_failed(environment, ending)
            return
        if environment.reason not in {IDLE, RETIRED}:
            log.error("%s: an environment has ended: %s", self._name, ending)
        if call is not None:
            if call.delivered:
                self._settle(call, Invocation(None, "failed", f"{self.function.name}: {ending}"))
            elif call.timer is not None:
                # The environment had answered another call and ended before it asked for this one.
                self._waiting[call] = None
                self._waiting.move_to_end(call, last=False)
        self._start_for_waiting()

    def _init_failed(self, environment: Environment, ending: str) -> None:
        now = asyncio.get_running_loop().time()
        self._starting -= 1
        self._reason = f"init failed: {ending}"
        log.error("%s: init failed after %.0f ms: %s", self._name, (now - environment.since) * 1000, ending)
        self._retry_at = now + RETRIES_S[min(self._failures, len(RETRIES_S) - 1)]
        self._failures += 1
        if self._failures == 1:
            self._start_for_waiting()
            if self._loading and not self._environments:
                self._start()
            return
        self._end_loading(self._reason)
        if not self._environments:
            self._fail_waiting(self._reason)

    def _fail_waiting(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for call in waiting:
            self._settle(call, Invocation(None, "failed", f"{self.function.name}: {reason}"))

    def _end_loading(self, reason: str) -> None:
        loading, self._loading = self._loading, []
        for loaded in loading:
            if not loaded.done():
                loaded.set_result(reason)

    def _withdraw(self, environment: Environment) -> None:
        """Assign nothing more to it."""
        self._returning.pop(environment, None)
        if environment in self._free:
            self._free.remove(environment)

    def _forget(self, environment: Environment) -> None:
        self._withdraw(environment)
        self._environments.pop(environment.api, None)
        kept = self._kept.pop(environment, None)
        if kept is not None and self._budget is not None:
            self._budget.end(kept)

    def _weigh(self) -> None:
        """Measure the current memory of the environments."""
        for environment, kept in self._kept.items():
            if environment.api.started and self._budget is not None and (used := environment.used_bytes):
                self._usual_bytes = used
                self._budget.resize(kept, used)

    def _schedule_reap(self) -> None:
        if self._reaper is None:
            delay_s = min(5.0, max(0.05, self._limits.idle_s / REAPS_PER_IDLE))
            self._reaper = asyncio.get_running_loop().call_later(delay_s, self._reap)

    def _reap(self) -> None:
        """End environments that were idle for long, and those that never ask for their first event."""
        self._reaper = None
        self._guard.keep()
        now = asyncio.get_running_loop().time()
        for environment in (*self._free, *self._returning):
            if now - environment.since >= self._limits.idle_s:
                self.end_idle(environment)
        self._weigh()
        for environment in self._environments.values():
            if not environment.api.started and now - environment.since >= INIT_S + self.function.settings.timeout_s:
                environment.kill("Sandbox.Timedout: init took too long; killed")
        if self._environments:
            self._schedule_reap()

    def _notify(self, line: str) -> None:
        printed.info("%s: %s", self._name, line)
