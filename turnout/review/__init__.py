"""Reviews what a change of a project means for callers, traffic and cost, before it is merged."""
