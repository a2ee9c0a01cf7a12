from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.protocol.routing.graph_nodes import CallNode, Case, EnsembleNode, Node, SequenceNode, SwitchNode
from turnout.protocol.routing.route_table import GraphRoute, ModelRoute, RouteTable, VersionRoute
from turnout.protocol.routing.sticky import KEY_READERS, Sticky

names = st.text("abc-123", min_size=1, max_size=5)
name_maps = st.dictionaries(names, names, max_size=2)


def inner_nodes(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    few = st.lists(nodes, min_size=1, max_size=3).map(tuple)
    words = st.dictionaries(names | st.just("*"), st.sampled_from(["mean", "vote"]), min_size=1, max_size=2)
    values = st.integers() | st.booleans() | names | st.floats(allow_nan=False, allow_infinity=False)
    cases = st.lists(st.builds(Case, st.sampled_from(["equals", "below", "above"]), values, nodes), min_size=1)
    return (
        st.builds(SequenceNode, few)
        | st.builds(EnsembleNode, few, words)
        | st.builds(SwitchNode, names, cases.map(tuple), nodes)
    )


calls = st.builds(CallNode, names, names | st.just(""), name_maps, name_maps)
nodes = st.recursive(calls, inner_nodes, max_leaves=6)
versions = st.dictionaries(names, st.builds(VersionRoute, st.integers(1, 900), st.lists(names).map(tuple)), max_size=3)
stickies = st.none() | st.builds(Sticky, st.sampled_from(sorted(KEY_READERS)), names)
graphs = st.none() | st.builds(GraphRoute, nodes, st.just({"inputs": [], "outputs": []}))
routes = st.builds(
    ModelRoute,
    names,
    versions,
    sticky=stickies,
    shadow=names,
    shadow_percent=st.floats(0, 100),
    fallback=names,
    graph=graphs,
)
tables = st.builds(
    RouteTable, names, names, st.dictionaries(names, routes, max_size=3), st.frozensets(names, max_size=3)
)


@settings(max_examples=40, deadline=None)
@given(tables)
def test_a_table_is_read_back(table: RouteTable) -> None:
    text = json.dumps(table.to_json())
    assert RouteTable.from_json(json.loads(text), prefix=table.prefix) == table


def test_the_file_does_not_contain_the_prefix() -> None:
    assert "turnout-prod" not in json.dumps(RouteTable("iris", "turnout-prod", {}).to_json())
