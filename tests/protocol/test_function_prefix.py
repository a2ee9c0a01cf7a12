"""Names of different platforms and stacks never collide."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.naming import Place
from turnout.protocol.naming import function_prefix

PLATFORM = st.from_regex(re.compile(r"[a-z][a-z0-9]{0,2}(-[a-z0-9]{1,2}){0,3}", re.ASCII), fullmatch=True)
STACK = st.from_regex(re.compile(r"[A-Za-z0-9-]{1,6}", re.ASCII), fullmatch=True)


@pytest.mark.parametrize("stack", ["prod", "local", "test", "eu1", "7"])
def test_stack_of_one_lowercase_word_keeps_its_old_prefix(stack: str) -> None:
    assert function_prefix("shop-eu", stack) == f"shop-eu-{stack}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("shop", "eu-prod"), ("shop-eu", "prod")),
        (("shop", "eu-us-prod"), ("shop-eu", "us-prod")),
        (("shop", "Prod"), ("shop", "prod")),
        (("shop", "Prod"), ("shop", "PROD")),
        (("shop", "eu-Prod"), ("shop-eu", "Prod")),
        (("shop", "a--b"), ("shop", "a-b")),
        (("shop", "-prod"), ("shop", "prod")),
    ],
)
def test_pairs_that_once_shared_their_names_no_longer_do(first: tuple[str, str], second: tuple[str, str]) -> None:
    assert function_prefix(*first).lower() != function_prefix(*second).lower()


@given(PLATFORM, STACK, PLATFORM, STACK)
def test_different_platforms_and_stacks_have_different_prefixes(
    platform: str, stack: str, other_platform: str, other_stack: str
) -> None:
    assume((platform, stack) != (other_platform, other_stack))
    # Services such as IAM and S3 do not distinguish case.
    assert function_prefix(platform, stack).lower() != function_prefix(other_platform, other_stack).lower()


def test_every_way_to_split_the_same_text_has_its_own_prefix() -> None:
    words = ["a", "b", "c", "d"]
    pairs = [("-".join(words[:n]), "-".join(words[n:])) for n in range(1, 4)]
    pairs += [(platform, stack.upper()) for platform, stack in pairs]
    prefixes = {function_prefix(*pair).lower() for pair in pairs}
    assert len(prefixes) == len(pairs)


def test_names_below_a_prefix_do_not_collide() -> None:
    places = [
        Place("aws", "eu-west-1", "1" * 12, function_prefix(platform, stack))
        for platform, stack in product(("shop", "shop-eu", "shop-guard", "shop-prod-guard-rail"), ("prod", "rail", "x"))
    ]
    names = [
        name
        for place in places
        for name in (
            place.bucket,
            place.guard_rail,
            place.logs_role,
            place.integration_role,
            *(place.guard_rail_rule(stage) for stage in ("prod", "prod-check", "x-guard-rail-y", "y")),
            *(place.guard_rail_check(place.guard_rail_rule(stage)) for stage in ("prod", "prod-check")),
        )
    ]
    assert len({name.lower() for name in names}) == len(names)
    assert all("_" not in place.prefix for place in places)
