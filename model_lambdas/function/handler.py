"""The function of one model version, as Lambda calls it: takes a proxy event and returns a proxy response."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from turnout.protocol.aws.cors import cors_headers
from turnout.protocol.aws.events import is_canary, is_ping, make_answer, read_event
from turnout.protocol.codecs.codecs import check_sizes, decode_request, encode_answer
from turnout.protocol.codecs.requests import InferenceRequest
from turnout.protocol.codecs.responses import FEW_ELEMENTS, make_tensor_answer, write_answer_file
from turnout.protocol.errors import RequestError
from turnout.protocol.naming import CANARY_HEADER, DIGEST_HEADER, MODEL_HEADER, VERSION_HEADER
from turnout.protocol.requests.runs import LARGE_BYTES, read_run
from turnout.protocol.run_times import wants_run_times, with_run_times
from turnout.protocol.tensors.datatypes import Array
from turnout.protocol.tensors.interface import Interface, build_interface, datatype_of
from turnout.protocol.tensors.output_sizes import OutputSizes

from .runtime import Cancellation, FunctionSpec, Model, OpenModel, RunCancelled
from .timed_model import TimedModel
from .transform import Transform

if TYPE_CHECKING:
    from .images.image_transform import ImageTransform

log = logging.getLogger("turnout.function")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The open model."""

    model: Model
    interface: Interface
    graph: Interface
    transform: Transform | ImageTransform | None
    sizes: OutputSizes


class ModelFunction:
    """One version's function. Making it is cheap; `load` opens the version, at the latest for the first call.

    Args:
        spec: the version.
        open_model: opens the version with its runtime.
    """

    def __init__(self, spec: FunctionSpec, open_model: OpenModel) -> None:
        self.spec = spec
        self._open_model = open_model
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        named = {
            MODEL_HEADER: spec.model,
            VERSION_HEADER: spec.version,
            DIGEST_HEADER: spec.sha256[:12],
        }
        self._headers = {
            canary: {"Content-Type": "application/json", **named, CANARY_HEADER: canary} for canary in ("false", "true")
        }

    def load(self) -> None:
        """Open the session and the transform, only once: other calls, from any thread, return when that is done.

        Raises:
            ModelError: the artifact or the transform cannot be opened. The next call tries again.
        """
        self._load()

    def _load(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                spec = self.spec
                transform = _open_transform(spec)
                own = spec.signature
                public = spec.public or own
                interface = build_interface(
                    public,
                    spec.model,
                    spec.version,
                    free_inputs=transform is not None and transform.has_preprocess and public.inputs == own.inputs,
                    free_outputs=transform is not None and transform.has_postprocess and public.outputs == own.outputs,
                )
                graph = build_interface(spec.signature, spec.model, spec.version)
                model = self._open_model(spec)
                self._loaded = _Loaded(model, interface, graph, transform, OutputSizes(own, FEW_ELEMENTS))
            return self._loaded

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Return the response to one event.

        Args:
            event: API Gateway's proxy event, which says to which share of the traffic it belongs (`is_canary`). Or a
                `PING`, which is answered with 200 once the session is open.
            context: Lambda's context. Its attribute `cancellation`, a `Cancellation`, can end a long run, and its
                method `may_run` says whether to continue with the inputs that were read.

        Raises:
            RunCancelled: `context.cancellation` was used, or `may_run` returned false.
        """
        headers = self._headers["true" if is_canary(event) else "false"] | cors_headers(event)
        times: list[tuple[int, int]] = []
        try:
            answer = self._answer(event, context, headers, times)
        except RequestError as error:
            answer = _failure(error, headers)
        except (RunCancelled, MemoryError):
            raise  # neither can be answered; Lambda ends a function that is out of memory
        except Exception:
            log.exception("%s %s failed", self.spec.model, self.spec.version)
            answer = _failure(RequestError("MODEL_FAILED", f"{self.spec.model} {self.spec.version} failed"), headers)
        return with_run_times(answer, times) if times else answer

    def _answer(
        self, event: Mapping[str, Any], context: Any, headers: dict[str, str], times: list[tuple[int, int]]
    ) -> dict[str, Any]:
        loaded = self._loaded or self._load()
        if "turnout" in event:
            if is_ping(event):
                return make_answer(200, headers, b'{"ready":true}')
            if wants_run_times(event):
                loaded = replace(loaded, model=TimedModel(loaded.model, times))
        request_headers, body = read_event(event)
        request = decode_request(request_headers, body, loaded.interface)
        run = read_run(event) if "turnout" in event else None
        if run is not None and run.answer_file:
            request.largest_bytes = run.max_answer_bytes
        may_run = getattr(context, "may_run", None)
        if may_run is not None and not may_run(request.inputs):
            raise RunCancelled
        cancellation: Cancellation | None = getattr(context, "cancellation", None)
        if loaded.transform is None:
            if counts := loaded.sizes.count(request.inputs):
                check_sizes(counts, request, loaded.graph)
            outputs = loaded.model.run(request.inputs, request.outputs, cancellation)
        else:
            outputs = self._run_transformed(loaded, loaded.transform, request, cancellation)
        answer = encode_answer(outputs, request, loaded.interface)
        if run is not None and run.answer_file and answer.size > LARGE_BYTES:
            return write_answer_file(headers, answer, run.answer_file)
        return make_tensor_answer(headers, answer)

    def _run_transformed(
        self,
        loaded: _Loaded,
        transform: Transform | ImageTransform,
        request: InferenceRequest,
        cancellation: Cancellation | None,
    ) -> dict[str, Array]:
        inputs, names = request.inputs, request.outputs
        if transform.has_preprocess:
            inputs = self._run_step(transform.preprocess, inputs)
            self._check_prepared(loaded, inputs)
        if not transform.has_postprocess:
            check_sizes(loaded.sizes.count(inputs), request, loaded.graph)
        outputs = loaded.model.run(inputs, () if transform.has_postprocess else names, cancellation)
        if not transform.has_postprocess:
            return outputs
        outputs = self._run_step(transform.postprocess, outputs)
        if not loaded.interface.free_outputs:
            outputs = self._declared(loaded.interface, outputs, names)
        return outputs

    def _check_prepared(self, loaded: _Loaded, inputs: dict[str, Array]) -> None:
        """Check what `preprocess` returned.

        Shapes can depend on the client's values. Names and datatypes cannot if the request had to match the
        declaration: wrong ones are the version's failure, because an error about tensors that the client never sent
        would not help it.
        """
        try:
            loaded.graph.check_inputs(inputs)
        except RequestError as error:
            if loaded.interface.free_inputs or error.code == "SHAPE_MISMATCH":
                raise
            log.exception("%s %s: preprocess returned a wrong tensor", self.spec.model, self.spec.version)
            raise self._transform_failed("preprocess") from error

    def _declared(self, interface: Interface, outputs: dict[str, Array], names: tuple[str, ...]) -> dict[str, Array]:
        """Return the requested outputs in the declared order.

        An output that does not match its declaration is the version's failure.
        """
        for name, datatype in interface.outputs.items():
            declared = datatype_of(outputs[name], datatype) if name in outputs else "nothing"
            if declared != datatype:
                log.error(
                    "%s %s: postprocess returned %s for `%s`, declared %s",
                    self.spec.model,
                    self.spec.version,
                    declared,
                    name,
                    datatype,
                )
                raise self._transform_failed("postprocess")
        return {name: outputs[name] for name in names or interface.outputs}

    def _transform_failed(self, step: str) -> RequestError:
        message = f"{self.spec.model} {self.spec.version}: {step} failed; see the function's log"
        return RequestError("TRANSFORM_FAILED", message)

    def _run_step(self, step: Any, tensors: dict[str, Array]) -> dict[str, Array]:
        try:
            result: dict[str, Array] = step(tensors)
        except (RequestError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            log.exception("%s %s: %s of the transform failed", self.spec.model, self.spec.version, step.__name__)
            raise self._transform_failed(step.__name__) from error
        return result


def _open_transform(spec: FunctionSpec) -> Transform | ImageTransform | None:
    owner = f"{spec.model} {spec.version}"
    transform = None if spec.transform is None else Transform(spec.transform, owner, spec.transform_files)
    if spec.image is None:
        return transform
    from .images.image_transform import ImageTransform  # only images need it

    return ImageTransform(spec.image, spec.signature, owner, transform)


def _failure(error: RequestError, headers: dict[str, str]) -> dict[str, Any]:
    return make_answer(
        error.status, headers, orjson.dumps(error.body(), default=str, option=orjson.OPT_SERIALIZE_NUMPY)
    )
