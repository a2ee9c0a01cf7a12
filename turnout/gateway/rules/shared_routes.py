"""Calls the function behind a route that models share without the hop through the general router.

On AWS such a call goes through the general router. Here the hop would only cost time (70 us of 160), so the gateway
skips it; tests compare both ways. Requests that the router answers itself, such as for a missing model, are left to it,
and with `--isolated` every call is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from turnout.gateway.rules.stages import DirectCall, FunctionTarget, Share
from turnout.plan.routes import SHARED_PATHS
from turnout.protocol.naming import ROUTER, function_name, variable_name


class SharedRoutes:
    """Finds the function behind a shared route.

    Args:
        names: names of the functions that may be called in this way: versions and models' routers.
    """

    __slots__ = ("_names",)

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def find(
        self, resource: str, parameters: Mapping[str, str] | None, share: Share, target: FunctionTarget
    ) -> DirectCall | None:
        """Return what to call instead of the general router; None if there is nothing else.

        Args:
            resource: the path template of the route.
            parameters: parameters of its path.
            share: the share whose variables choose the version.
            target: the general router.
        """
        if resource not in SHARED_PATHS or parameters is None:
            return None
        model, version = parameters["model"], parameters.get("version", "")
        behind = share.behind.get((model, version))
        if behind is not None:
            return behind
        chosen = version or share.choice_of(variable_name(model))
        name = function_name(target.function.removesuffix(f"_{ROUTER}"), model, chosen)
        if name not in self._names or version == ROUTER:
            return None
        called = FunctionTarget(name, target.alias, target.timeout_s)
        behind = share.behind[model, version] = DirectCall(called, resource.format_map(parameters))
        return behind
