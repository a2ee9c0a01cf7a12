"""One function that runs in this process: opening its session, its queue, its threads and its timeout.

All state belongs to the event loop; threads only run jobs and report back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import orjson

from turnout.gateway.functions.deferred import is_encoded
from turnout.gateway.functions.in_process.load_gate import LoadGate
from turnout.gateway.functions.in_process.pace import LONG_RUN_S, Pace
from turnout.gateway.functions.in_process.run_memory import RunMemory
from turnout.gateway.functions.in_process.threads import Threads
from turnout.gateway.functions.in_process.watchdog import Watchdog
from turnout.gateway.functions.in_process.watched import OneAtATime
from turnout.gateway.functions.invocation import LARGEST_ANSWER_BYTES, Invocation, answer_bytes
from turnout.gateway.functions.known_shapes import KnownShapes, Shapes
from turnout.gateway.functions.lambda_context import Cancellation, Context
from turnout.gateway.functions.waiting_time import GRACE_S, MOST_GRACED, WaitingTime
from turnout.gateway.shared.running import MOST_DEATHS, key_of
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.plan.values import Function
from turnout.protocol.requests.runs import is_asynchronous

log = logging.getLogger("turnout.functions")

ENDING_S = 1.0
"""How long a canceled run may take to end before its slot is given to another one: onnxruntime checks between two
nodes, and a transform does not check at all.
"""

UNLIMITED_LOADS = 1_000_000

_NO_HEADERS: Mapping[str, str] = {}


class Runnable(Protocol):
    """The interface of a function's code: `model_lambdas.function.handler.ModelFunction`."""

    def load(self) -> None:
        """Open the session and import the transform; raise an exception if that fails."""
        ...

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Answer one proxy event; safe in many threads at once."""
        ...


class Running(Protocol):
    """The record of running calls: `turnout.gateway.shared.running.SharedRunning`."""

    def begin(self, key: int) -> int:
        """Record that a function runs; return the slot of the record."""
        ...

    def end(self, place: int) -> None:
        """Record that it has ended."""
        ...


class _NotRecorded:
    """Records nothing, for functions without a record of running calls."""

    def begin(self, key: int) -> int:
        return key

    def end(self, place: int) -> None:
        pass


class PendingCall:
    """One call that waits or runs outside the loop."""

    __slots__ = (
        "alias",
        "cancellation",
        "deadline",
        "event",
        "future",
        "given_up",
        "is_alone",
        "is_asynchronous",
        "kept_until",
        "latest",
        "place",
        "started",
        "timer",
    )

    def __init__(self, alias: str, event: Mapping[str, Any], deadline: float, cancellation: Cancellation) -> None:
        self.alias = alias
        self.event = event
        self.deadline = self.latest = deadline
        self.cancellation = cancellation
        self.started = False
        self.given_up = False
        self.kept_until = 0.0  # see `waiting_time.Waiting`
        self.is_alone = False
        self.is_asynchronous = is_asynchronous(event)  # runs outside the function's places and takes none
        self.place = -1
        self.future: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None


class HostedFunction:
    """One function of the plan.

    Args:
        function: name, memory and timeout.
        make: makes its code, not yet loaded; called in a thread, and again after a failed load.
        make_cancellation: makes what stops one run.
        threads: run and load what would block the loop.
        watchdog: ends runs on the loop at their deadlines.
        running_limit: most calls of this function that run in threads at once. A call that timed out and does not end
            within `ending_s` does not count.
        waiting_limit: most calls that wait for a thread or the session; more are `throttled`.
        loop_limit_s: the longest expected run on the event loop; 0 uses a thread for every run.
        check: called in a thread before and after the code is loaded; raises an exception if its files have changed.
        ending_s: see `ENDING_S`.
        running: records each run before it starts, or None.
        one_at_a_time: shared by all functions, for those that are watched.
        gate: limits concurrent loads of all functions; None for no limit.
        budget: unloads idle functions when memory is short, or None.
        session_bytes: memory that the function is expected to use when loaded.
        run_memory: limits the memory of runs; shared by all functions of this process.
        limits_memory: whether the memory of a run depends on the request's values, and is limited.

    Attributes:
        used_s: time of its last call, on the monotonic clock.
        called_s: time of its last synchronous call.
    """

    def __init__(
        self,
        function: Function,
        make: Callable[[], Runnable],
        make_cancellation: Callable[[], Cancellation],
        threads: Threads,
        watchdog: Watchdog,
        *,
        running_limit: int,
        waiting_limit: int,
        loop_limit_s: float,
        check: Callable[[], None] | None = None,
        ending_s: float = ENDING_S,
        running: Running | None = None,
        one_at_a_time: OneAtATime | None = None,
        gate: LoadGate | None = None,
        budget: SessionBudget | None = None,
        session_bytes: int = 0,
        run_memory: RunMemory | None = None,
        limits_memory: bool = False,
    ) -> None:
        self.function = function
        self.used_s = 0.0
        self.called_s = -math.inf
        self._gate = gate or LoadGate(UNLIMITED_LOADS)
        self._budget = budget
        self._session_bytes = session_bytes
        self._run_memory = run_memory or RunMemory()
        self._limits_memory = limits_memory
        self._key = key_of(function.name)
        self._running_now: Running = running or _NotRecorded()
        self._one_at_a_time = one_at_a_time or OneAtATime()
        self._deaths = 0
        self._loading_place = -1
        self.running = 0
        self.runs_on_loop = 0
        self._waiting: dict[PendingCall, None] = {}  # ordered by arrival, with fast removal
        self._make = make
        self._make_cancellation = make_cancellation
        self._threads = threads
        self._watchdog = watchdog
        self._loop_cancellation = make_cancellation()
        self._ending_s = ending_s
        self._running_limit = running_limit
        self._waiting_limit = waiting_limit
        self._loop_limit_s = loop_limit_s
        self._pace = Pace(loop_limit_s)
        self._shapes = KnownShapes(loop_limit_s)
        self._waiting_time = WaitingTime()
        self._graced = 0
        self.check = check
        self.on_open: Callable[[str], None] | None = None
        self._is_retired = False
        self._code: Runnable | None = None
        self._loading: asyncio.Future[str] | None = None
        self._running_calls: set[PendingCall] = set()
        self._beside = 0  # number of asynchronous runs

    def invoke(self, alias: str, event: Mapping[str, Any], timeout_s: float) -> Invocation | asyncio.Future[Invocation]:
        """Run immediately if the run is known to be short; otherwise in a thread, in order of arrival."""
        code = self._code
        # As on Lambda, the time that opening takes does not count against the function's timeout.
        limit_s = timeout_s if code is None else min(timeout_s, self.function.settings.timeout_s)
        self.used_s = now = time.monotonic()
        deadline = now + limit_s
        if self._deaths >= MOST_DEATHS:
            return self._refuse()
        if code is not None and not self._deaths and "turnout" in event and is_asynchronous(event):
            return self._start_asynchronous(alias, event, deadline)
        self.called_s = now
        # No call overtakes a waiting one, and a body that may become large is not read on the loop.
        if code is not None and self._loop_limit_s > 0 and not self._waiting and not self._deaths:
            size = body_size(event)
            if self._pace.is_short(size) and not is_encoded(event.get("headers") or _NO_HEADERS):
                context = Context(self.function, alias, event, deadline, self._loop_cancellation, self._shapes)
                invocation = self._run_on_loop(code, event, context, deadline, size)
                if invocation is not None:
                    self.runs_on_loop += 1
                    return invocation
        if len(self._waiting) >= self._waiting_limit:
            message = f"{self.function.name}: {len(self._waiting)} calls are already waiting"
            return Invocation(None, "throttled", message)
        is_hopeless = code is not None and self._is_hopeless(deadline)
        if is_hopeless and self._graced >= MOST_GRACED:
            return self._refuse_for_waiting()
        call = PendingCall(alias, event, deadline, self._make_cancellation())
        loop = asyncio.get_running_loop()
        call.timer = loop.call_at(loop.time() + deadline - time.monotonic(), self._expire, call)
        call.future.add_done_callback(lambda _: self._let_go(call))
        self._waiting[call] = None
        if is_hopeless:
            call.kept_until = time.monotonic() + GRACE_S
            self._graced += 1
            loop.call_later(GRACE_S + 0.001, self._end_grace)
        if self._code is None:
            self.load()
        else:
            self._start_waiting()
        return call.future

    def _start_asynchronous(self, alias: str, event: Mapping[str, Any], deadline: float) -> asyncio.Future[Invocation]:
        """Run in an additional thread: the queue limits such runs, and no synchronous call may wait for one."""
        loop = asyncio.get_running_loop()
        call = PendingCall(alias, event, deadline, self._make_cancellation())
        call.timer = loop.call_at(loop.time() + deadline - time.monotonic(), self._expire, call)
        call.future.add_done_callback(lambda _: self._let_go(call))
        self._start(call)
        return call.future

    def note_deaths(self, count: int) -> None:
        """Set how many workers this function ended, or may have.

        A suspected one runs alone among all suspected ones.
        """
        self._deaths = count
        if count >= MOST_DEATHS:
            waiting, self._waiting = self._waiting, {}
            for call in waiting:
                _settle(call, self._refuse())

    def _refuse(self) -> Invocation:
        """Return the error for a function that ended workers."""
        function = self.function
        sentence = f"{function.model} {function.version} is not served: it has ended {self._deaths} processes"
        body = orjson.dumps({"error": sentence, "code": "NOT_READY", "details": {}}).decode()
        headers = {
            "Content-Type": "application/json",
            "x-turnout-model": function.model,
            "x-turnout-version": function.version,
        }
        return Invocation({"statusCode": 503, "headers": headers, "body": body, "isBase64Encoded": False})

    def load(self) -> asyncio.Future[str]:
        """Open the session in a thread, once for all waiting calls.

        The future contains the reason of a failure, or nothing.
        """
        loop = asyncio.get_running_loop()
        if self._code is not None:
            done: asyncio.Future[str] = loop.create_future()
            done.set_result("")
            return done
        if self._loading is None:
            loading = self._loading = loop.create_future()
            budget = self._budget
            evicted: list[Any] = [] if budget is None else budget.begin(self, self._session_bytes)

            def job() -> None:
                if budget is not None:
                    budget.drop(evicted)
                try:
                    with self._run_memory.suspended():
                        code = self._load_code()
                except BaseException as error:  # a transform may even raise SystemExit
                    log.exception("%s: the function could not be loaded", self.function.name)
                    _report(loop, self._loaded, loading, None, f"{type(error).__name__}: {error}")
                else:
                    _report(loop, self._loaded, loading, code, "")

            def start() -> None:
                self._loading_place = self._running_now.begin(self._key)
                try:
                    self._threads.submit(job)
                except RuntimeError as error:
                    loop.call_soon(self._loaded, loading, None, f"{type(error).__name__}: {error}")

            self._gate.enter(self, start)
        return self._loading

    @property
    def is_wanted(self) -> bool:
        """Whether it was called: its session is open or about to be opened."""
        return self._code is not None or self._loading is not None

    @property
    def is_open(self) -> bool:
        """Whether its session is open."""
        return self._code is not None

    @property
    def is_idle(self) -> bool:
        """Whether its session is open and no call runs or waits; an abandoned run still runs."""
        return self._code is not None and not (self.running or self._waiting or self._running_calls)

    def evict(self) -> Runnable | None:
        """Drop the session to free its memory; the next call opens it again."""
        code, self._code = self._code, None
        return code

    @property
    def session_bytes(self) -> int:
        """Return the memory that the session is expected to use."""
        return self._session_bytes

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a thread or the session."""
        return len(self._waiting)

    def retire(self) -> None:
        """Accept no more calls, and drop the session with the last run."""
        self._is_retired = True
        self._let_go_of_code()

    def _let_go_of_code(self) -> None:
        if self._is_retired and not (self.running or self._beside or self._waiting or self._loading):
            self._code = None
            if self._budget is not None:
                self._budget.end(self)

    def _load_code(self) -> Runnable:
        if self.check is not None:
            self.check()
        code = self._make()
        code.load()
        if self.check is not None:
            self.check()
        return code

    def cancel(self) -> None:
        """Stop every run that can be stopped, because the process is about to end."""
        for call in self._running_calls:
            call.cancellation.cancel()

    def _loaded(self, loading: asyncio.Future[str], code: Runnable | None, reason: str) -> None:
        self._loading = None
        self._running_now.end(self._loading_place)
        self._gate.leave(self)
        self._code = code
        if code is None and self._budget is not None:
            self._budget.end(self)
        if not loading.done():
            loading.set_result(reason)
        if code is not None:
            self._limit_waiting()
            self._start_waiting()
            self._let_go_of_code()
            if self.on_open is not None:
                self.on_open(self.function.name)
            return
        failed = Invocation(None, "failed", f"{self.function.name} could not be loaded: {reason}")
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            _settle(call, failed)

    def _limit_waiting(self) -> None:
        """Start the function's own timeout for the calls that waited for the session."""
        loop, now = asyncio.get_running_loop(), time.monotonic()
        for call in self._waiting:
            call.deadline = min(call.latest, now + self.function.settings.timeout_s)
            if call.timer is not None:
                call.timer.cancel()
            call.timer = loop.call_at(loop.time() + call.deadline - now, self._expire, call)

    def _is_hopeless(self, deadline: float) -> bool:
        """Whether a new call would wait past its deadline."""
        if self.running < self._running_limit:
            return False
        return self._waiting_time.is_hopeless(len(self._waiting), self.running, deadline - time.monotonic())

    def _refuse_hopeless(self) -> None:
        """Reject calls at the end of the queue that will not be answered in time."""
        waiting = self._waiting
        for call in self._waiting_time.find_hopeless(reversed(waiting), len(waiting), self.running, time.monotonic()):
            _settle(call, self._refuse_for_waiting())
            del waiting[call]

    def _end_grace(self) -> None:
        self._graced -= 1
        self._refuse_hopeless()

    def _refuse_for_waiting(self) -> Invocation:
        message = (
            f"{self.function.name}: {len(self._waiting)} calls are already waiting, too many to be answered in time"
        )
        return Invocation(None, "throttled", message)

    def _start_waiting(self) -> None:
        """Pass waiting calls to threads, as many as may run."""
        while self._waiting and self.running < self._running_limit:
            if self._deaths and not self._one_at_a_time.take(self._start_waiting):
                return
            call = next(iter(self._waiting))
            del self._waiting[call]
            if not call.future.done():
                call.is_alone = bool(self._deaths)
                self._start(call)
            elif self._deaths:
                self._one_at_a_time.give_back()

    def _start(self, call: PendingCall) -> None:
        code = self._code
        assert code is not None
        loop = asyncio.get_running_loop()
        context = Context(self.function, call.alias, call.event, call.deadline, call.cancellation)

        def job() -> None:
            began, started = time.monotonic(), time.thread_time()
            with self._limit_memory():
                invocation = self._run(code, call.event, context)
            cost_s = time.thread_time() - started
            _report(loop, self._ran, call, invocation, cost_s, time.monotonic() - began, context.shapes)

        self.running += not call.is_asynchronous
        self._beside += call.is_asynchronous
        call.started = True
        call.place = self._running_now.begin(self._key)
        self._running_calls.add(call)
        self._threads.submit(job)

    def _limit_memory(self) -> AbstractContextManager[None]:
        if not self._limits_memory:
            return nullcontext()
        return self._run_memory.limited(self.function.settings.memory_mb * 1024 * 1024)

    def _ran(
        self, call: PendingCall, invocation: Invocation, cost_s: float, run_s: float, shapes: Shapes | None
    ) -> None:
        self._running_now.end(call.place)
        if call.given_up:
            self._threads.take_back()
        else:
            self._free_place(call)
        self._running_calls.discard(call)
        self._pace.learn(body_size(call.event), cost_s, on_loop=False)
        if shapes is not None:
            self._shapes.learn(shapes, cost_s)
        self._waiting_time.learn(run_s)
        self._start_waiting()
        self._refuse_hopeless()
        self._let_go_of_code()
        _settle(call, invocation)

    def _free_place(self, call: PendingCall) -> None:
        self.running -= not call.is_asynchronous
        self._beside -= call.is_asynchronous
        self._leave_alone(call)

    def _leave_alone(self, call: PendingCall) -> None:
        """Handle the end of a run that had to run alone."""
        if call.is_alone:
            call.is_alone = False
            self._one_at_a_time.give_back()

    def _run_on_loop(
        self, code: Runnable, event: Mapping[str, Any], context: Context, deadline: float, size: int
    ) -> Invocation | None:
        """Run on the loop, and learn the cost; return None if the inputs' shapes are not known to be short."""
        pace = self._pace
        self._watchdog.begin(deadline, self._loop_cancellation)
        place = self._running_now.begin(self._key)
        if pace.is_trusted(size):
            started = time.perf_counter()
            invocation = self._run(code, event, context)
            if time.perf_counter() - started > LONG_RUN_S:
                pace.doubt(size)
        else:
            started = time.thread_time()
            invocation = self._run(code, event, context)
            if not context.is_postponed:
                pace.learn(size, time.thread_time() - started, on_loop=True)
        self._running_now.end(place)
        self._watchdog.end()
        if time.monotonic() >= deadline:
            return self._leave_loop(invocation)
        return None if context.is_postponed else invocation

    def _leave_loop(self, invocation: Invocation) -> Invocation:
        """Use threads for all further runs, after one blocked the loop until its deadline."""
        is_cancelled = self._loop_cancellation.cancelled
        self._loop_cancellation = self._make_cancellation()
        self._loop_limit_s = 0
        log.warning("%s: a run on the event loop took until its deadline; its runs go to threads", self.function.name)
        return Invocation(None, "timed_out", self._overdue("ran")) if is_cancelled else invocation

    def _overdue(self, doing: str) -> str:
        return f"{self.function.name}: the call {doing} past its time limit and was given up"

    def _run(self, code: Runnable, event: Mapping[str, Any], context: Context) -> Invocation:
        """Run in the calling thread."""
        try:
            return check_answer(self.function.name, code(event, context))
        except BaseException as error:  # an exception from a transform is this function's failure, not the gateway's
            is_expected = context.is_postponed or (context.cancellation is not None and context.cancellation.cancelled)
            if not is_expected:
                log.exception("%s: the function raised", self.function.name)
            return Invocation(None, "failed", f"{self.function.name} raised {type(error).__name__}: {error}")

    def _expire(self, call: PendingCall) -> None:
        if call.future.done():
            return
        _settle(call, Invocation(None, "timed_out", self._overdue("ran" if call.started else "waited")))

    def _let_go(self, call: PendingCall) -> None:
        """The caller has its answer or disconnected: drop what still waits or runs for it."""
        if call.timer is not None:
            call.timer.cancel()
        if call in self._running_calls:
            call.cancellation.cancel()
            asyncio.get_running_loop().call_later(self._ending_s, self._give_up, call)
        else:
            self._waiting.pop(call, None)

    def _give_up(self, call: PendingCall) -> None:
        """Abandon a run that should have ended: its slot is freed, and its thread is lost until the run ends."""
        if call not in self._running_calls:
            return
        call.given_up = True
        self._free_place(call)
        log.warning("%s: a run does not end; its slot is free for other calls", self.function.name)
        self._threads.give_up()
        self._start_waiting()
        self._let_go_of_code()


def body_size(event: Mapping[str, Any]) -> int:
    """Return the number of characters in the event's body."""
    body = event.get("body")
    return len(body) if type(body) is str else 0


def check_answer(name: str, answer: Any) -> Invocation:
    """Return the answer, or why Lambda would reject it."""
    # An isinstance check against an abstract class takes longer than the rest; nearly every answer is a plain dict.
    body = answer.get("body") if type(answer) is dict or isinstance(answer, Mapping) else None
    # A character takes at most six bytes in JSON, so nearly every answer passes without being serialized.
    if type(body) is str and 6 * len(body) + 65_536 <= LARGEST_ANSWER_BYTES:
        return Invocation(answer)
    size = answer_bytes(answer)
    if size <= LARGEST_ANSWER_BYTES:
        return Invocation(answer)
    message = f"{name}: the answer is {size:,} bytes of JSON, {LARGEST_ANSWER_BYTES:,} are allowed"
    return Invocation(None, "too_large", message)


def _settle(call: PendingCall, invocation: Invocation) -> None:
    if not call.future.done():
        call.future.set_result(invocation)


def _report(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    """Call back on the loop from a thread; do nothing if the loop has been closed: then no caller waits."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise
