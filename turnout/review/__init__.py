"""Reviews the effects of a project's change on callers, traffic and cost, before it is merged."""
