"""Tags on every resource that accepts them: a transformation that components pass on to their children."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi


def tagging(tags: Mapping[str, str]) -> pulumi.ResourceOptions:
    """Return options that give a component and everything in it these tags, in addition to its own."""

    def add_tags(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not hasattr(type(args.resource), "tags"):
            return None
        props: dict[str, Any] = dict(args.props)
        own: dict[str, Any] = props.get("tags") or {}
        return pulumi.ResourceTransformationResult({**props, "tags": {**tags, **own}}, args.opts)

    return pulumi.ResourceOptions(transformations=[add_tags]) if tags else pulumi.ResourceOptions()
