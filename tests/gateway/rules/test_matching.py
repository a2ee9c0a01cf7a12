from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway.rules.matching import ANY, PathError, Routes

NESTED = [
    ("POST", "/models/{name}/inference"),
    ("POST", "/models/iris/v1/inference"),
    ("GET", "/models/{name}"),
    ("GET", "/models"),
    ("GET", "/part1/hardcoded"),
    ("GET", "/{param+}"),
    ("GET", "/"),
    (ANY, "/any/{x}"),
    ("GET", "/any/{x}"),
    ("GET", "/a/b/c"),
    ("GET", "/{x}/b/{y}"),
    ("POST", "/a/b/c/{rest+}"),
]


def routes(table: list[tuple[str, str]]) -> Routes[tuple[str, str]]:
    return Routes((method, path, (method, path)) for method, path in table)


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("POST", "/models/iris/inference", "/models/{name}/inference", {"name": "iris"}),
        ("POST", "/models/iris/v1/inference", "/models/iris/v1/inference", None),
        ("POST", "/models/iris/v1/inference/", "/models/iris/v1/inference", None),
        ("GET", "/models/iris", "/models/{name}", {"name": "iris"}),
        ("GET", "/models/", "/models", None),
        ("GET", "/part1/hardcoded", "/part1/hardcoded", None),
        ("GET", "/part1/random", "/{param+}", {"param": "part1/random"}),  # backtracks out of /part1
        ("GET", "/", "/", None),
        ("GET", "", "/", None),
        ("GET", "///", "/", None),
        ("GET", "/any/1", "/any/{x}", {"x": "1"}),
        ("DELETE", "/any/1", "/any/{x}", {"x": "1"}),
        ("GET", "/a/b/c", "/a/b/c", None),
        ("GET", "/a/b/d", "/{x}/b/{y}", {"x": "a", "y": "d"}),  # backtracks out of /a/b
        ("POST", "/a/b/c/d//e", "/a/b/c/{rest+}", {"rest": "d//e"}),
        ("GET", "/models//x", "/{param+}", {"param": "models//x"}),  # an empty segment does not match {name}
        ("GET", "/models/a%2Fb", "/models/{name}", {"name": "a%2Fb"}),
        ("GET", "/%6dodels", "/{param+}", {"param": "%6dodels"}),  # compared as sent
    ],
)
def test_best_route_wins(method: str, path: str, route: str, parameters: Mapping[str, str] | None) -> None:
    result = routes(NESTED).match(method, path)

    assert result is not None
    assert (result[0][1], result[1]) == (route, parameters)


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/models"), ("GET", "/a/b/c/d"), ("POST", "/nothing"), ("POST", "/models//inference"), ("POST", "/")],
)
def test_no_match_is_none(method: str, path: str) -> None:
    table = [route for route in NESTED if route[1] != "/{param+}"]

    assert routes(table).match(method, path) is None


def test_specific_method_beats_any() -> None:
    result = routes(NESTED).match("GET", "/any/1")

    assert result is not None
    assert result[0] == ("GET", "/any/{x}")


def test_greedy_parameter_does_not_match_the_root() -> None:
    assert routes([("GET", "/{proxy+}")]).match("GET", "/") is None


def test_falsy_target_is_found() -> None:
    assert Routes([("GET", "/x", 0), ("GET", "/{y}", "")]).match("GET", "/x") == (0, None)
    assert Routes([("GET", "/{y}", "")]).match("GET", "/x") == ("", {"y": "x"})


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/a b", "segment 'a b'"),
        ("/x{y}", "segment 'x{y}'"),
        ("/{p+}/x", "must be the last"),
        ("/a//b", "segment ''"),
        ("a/b", "segment 'a'"),
    ],
)
def test_invalid_template_is_rejected(path: str, says: str) -> None:
    with pytest.raises(PathError, match=says.replace("{", r"\{").replace("+", r"\+")):
        routes([("GET", path)])


def test_duplicate_route_is_rejected() -> None:
    with pytest.raises(PathError, match="GET is defined twice"):
        routes([("GET", "/{a}"), ("GET", "/{b}")])


def test_path_with_many_segments_ends_where_the_routes_do() -> None:
    table = routes([("GET", "/{a}/{b}/{c}"), ("GET", "/a/{rest+}")])

    assert table.match("GET", "/x" * 50_000) is None
    assert table.match("GET", "/a" * 50_000) == (("GET", "/a/{rest+}"), {"rest": "/".join("a" * 49_999)})


SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}"])
TEMPLATES = st.builds(
    lambda segments, rest: "/" + "/".join([*segments, *(["{rest+}"] if rest else [])]),
    st.lists(SEGMENTS, max_size=3),
    st.booleans(),
)
METHODS = st.sampled_from(["GET", "POST", ANY])


def rank(template: str, method: str, route_method: str, path: list[str]) -> tuple[int, ...] | None:
    """Return how good a route is, segment by segment, smaller is better; None if it does not match."""
    segments = [segment for segment in template.split("/") if segment]
    ranks: list[int] = []
    for position, segment in enumerate(segments):
        if segment.endswith("+}"):
            if len(path) <= position:
                return None
            ranks.append(2)
            break
        if len(path) <= position or (not segment.startswith("{") and segment != path[position]):
            return None
        ranks.append(1 if segment.startswith("{") else 0)
    else:
        if len(path) != len(segments):
            return None
    if route_method not in {method, ANY}:
        return None
    return (*ranks, route_method == ANY)


@given(
    st.lists(st.tuples(METHODS, TEMPLATES), max_size=8),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=4),
)
def test_match_agrees_with_comparing_all_routes(table: list[tuple[str, str]], method: str, path: list[str]) -> None:
    shapes: dict[tuple[str, str], tuple[str, str]] = {}
    for route in table:  # parameters with two names at one place are one resource to API Gateway
        shapes.setdefault((route[0], route[1].replace("{y}", "{x}")), route)
    ranked = [
        (result, route) for route in shapes.values() if (result := rank(route[1], method, route[0], path)) is not None
    ]

    result = routes(list(shapes.values())).match(method, "/" + "/".join(path))

    assert (result[0] if result else None) == (min(ranked)[1] if ranked else None)
