"""API Gateway's control plane for the stages served here: reads and changes them, makes deployments.

A call changes the stage atomically: all of it applies to every request that starts after the answer, on all workers, or
nothing does. APIs, stages and routes themselves come from models.yaml and cannot be created or deleted here; all
deployments of an API run the same code.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote

from turnout.gateway.api.gateway import RestApi
from turnout.gateway.functions.invocation import ACCOUNT_ID
from turnout.gateway.rules.stages import Deployment, StageSettings
from turnout.gateway.services.aws_wire import AwsError, answer, parse_object
from turnout.gateway.services.deployments import deploy, parse_deployment
from turnout.gateway.services.stage_patches import apply_operations, parse_operations
from turnout.gateway.services.stage_rows import api_row, deployment_row, stage_row
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.http_server.messages import Request, Response

log = logging.getLogger("turnout.control")
"""Logs changes at level INFO."""

UNKNOWN_OPERATION = (
    "This server supports reading APIs, stages and deployments, UpdateStage and CreateDeployment; "
    "models.yaml defines the rest"
)


class ControlPlane:
    """Answers requests for the APIs of one edition.

    Args:
        apis: the APIs with their planned stages.
        state: the current stages, shared by all workers.
        clock: seconds since 1970.
    """

    def __init__(self, apis: Iterable[RestApi], state: SharedState, clock: Callable[[], float] = time.time) -> None:
        self._apis = {api.id: api for api in apis}
        self._state = state
        self._clock = clock

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        segments = [unquote(segment) for segment in request.path.split("/")[2:] if segment]
        try:
            return self._answer(request, segments)
        except AwsError as error:
            return error.response()

    def _answer(self, request: Request, segments: list[str]) -> Response:
        method = "GET" if request.method == "HEAD" else request.method  # the HTTP server drops the body for HEAD
        match method, segments:
            case "GET", []:
                return answer(200, {"item": [self._api_row(api) for api in self._apis.values()]})
            case "GET", [api]:
                return answer(200, self._api_row(self._find_api(api)))
            case "GET", [api, "stages"]:
                return self._list_stages(self._find_api(api), parse_qs(request.query).get("deploymentId", [""])[0])
            case "GET", [api, "stages", name]:
                return self._answer_stage(self._find_stage(self._read(), self._find_api(api), name))
            case "PATCH", [api, "stages", name]:
                return self._update_stage(self._find_api(api), name, _body_of(request))
            case "GET", [api, "deployments"]:
                return answer(
                    200, {"item": [deployment_row(deployment) for deployment in self._deployments(self._find_api(api))]}
                )
            case "POST", [api, "deployments"]:
                return self._create_deployment(self._find_api(api), _body_of(request))
            case "GET", [api, "deployments", deployment]:
                return self._answer_deployment(self._find_api(api), deployment)
        raise AwsError(404, "UnknownOperationException", UNKNOWN_OPERATION)

    # Reading.

    def _read(self) -> ControlState:
        return self._state.read()[1]

    def _find_api(self, api_id: str) -> RestApi:
        api = self._apis.get(api_id)
        if api is None:
            raise _not_found(f"Invalid API identifier specified {ACCOUNT_ID}:{api_id}")
        return api

    def _find_stage(self, state: ControlState, api: RestApi, name: str) -> StageSettings:
        for stage in state.stages:
            if stage.api == api.id and stage.name == name:
                return stage
        raise _not_found("Invalid stage identifier specified")

    def _deployments(self, api: RestApi, state: ControlState | None = None) -> list[Deployment]:
        """Return the deployments of the API's planned and current stages, and those that clients made."""
        state = state or self._read()
        made = [deployment for deployment in state.deployments if deployment.api == api.id]
        live = [stage for stage in state.stages if stage.api == api.id]
        ids = [stage.deployment_id for stage in (*api.stages, *live)]
        ids += [stage.canary.deployment_id for stage in live if stage.canary is not None]
        known = {deployment.id for deployment in made}
        planned = [Deployment(name, api.id, self._state.started_s) for name in dict.fromkeys(ids) if name not in known]
        return [*planned, *made]

    def _api_row(self, api: RestApi) -> dict[str, Any]:
        return api_row(api.id, api.document["info"]["title"], self._state.started_s)

    def _answer_stage(self, stage: StageSettings) -> Response:
        return answer(200, stage_row(stage, self._state.started_s))

    def _list_stages(self, api: RestApi, deployment: str) -> Response:
        stages = [stage for stage in self._read().stages if stage.api == api.id]
        stages_shown = [stage_row(stage, self._state.started_s) for stage in stages]
        return answer(200, {"item": [stage for stage in stages_shown if deployment in {"", stage["deploymentId"]}]})

    def _answer_deployment(self, api: RestApi, deployment_id: str) -> Response:
        for deployment in self._deployments(api):
            if deployment.id == deployment_id:
                return answer(200, deployment_row(deployment))
        raise _not_found("Invalid Deployment identifier specified")

    # Changing.

    def _update_stage(self, api: RestApi, name: str, body: dict[str, Any]) -> Response:
        operations = parse_operations(body)

        def change(state: ControlState) -> ControlState:
            ids = {deployment.id for deployment in self._deployments(api, state)}
            stage = apply_operations(self._find_stage(state, api, name), operations, ids)
            return self._with_stage(state, stage)

        stage = self._find_stage(self._change(change), api, name)
        log.info("stage %s was changed by UpdateStage", name)
        return self._answer_stage(stage)

    def _create_deployment(self, api: RestApi, body: dict[str, Any]) -> Response:
        wanted = parse_deployment(body)
        made = Deployment(secrets.token_hex(3), api.id, self._clock(), wanted.description)

        def change(state: ControlState) -> ControlState:
            state = replace(state, deployments=(*state.deployments, made))
            if wanted.stage is None and wanted.canary is None:
                return state
            stage = next(
                (candidate for candidate in state.stages if candidate.api == api.id and candidate.name == wanted.stage),
                None,
            )
            return self._with_stage(state, deploy(stage, wanted, made.id))

        self._change(change)
        if wanted.stage:
            log.info("stage %s was changed by CreateDeployment", wanted.stage)
        return answer(201, deployment_row(made))

    def _change(self, change: Callable[[ControlState], ControlState]) -> ControlState:
        """Change the shared state atomically, and return the new state."""
        changed: list[ControlState] = []

        def note(state: ControlState | None) -> ControlState:
            assert state is not None
            changed.append(change(state))
            return changed[0]

        try:
            self._state.update(note)
        except ValueError as error:
            raise AwsError(429, "LimitExceededException", str(error)) from None
        return changed[0]

    def _with_stage(self, state: ControlState, stage: StageSettings) -> ControlState:
        stage = replace(stage, record=replace(stage.record, updated_s=self._clock()))
        return replace(
            state, stages=tuple(stage if candidate.name == stage.name else candidate for candidate in state.stages)
        )


def _not_found(message: str) -> AwsError:
    return AwsError(404, "NotFoundException", message)


def _body_of(request: Request) -> dict[str, Any]:
    try:
        return parse_object(request.body)
    except ValueError as error:
        raise AwsError(400, "SerializationException", f"The request's body is not readable: {error}") from None
