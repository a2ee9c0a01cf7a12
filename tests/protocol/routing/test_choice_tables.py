"""What a stage serves of any number of models, in one table whose name contains its digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.routing.test_packed_choices import MODELS, longest_of
from turnout.protocol.naming import variable_name
from turnout.protocol.routing.choice_tables import (
    TABLE_VARIABLE,
    ChoiceTables,
    TableError,
    find_known,
    is_table_name,
    make_table,
    names_of,
    open_folder,
    parse_table,
    refuse_unreadable,
    table_path,
)
from turnout.protocol.routing.packed_choices import arrange_models, expand_choices, find_choice, pack_choices


@given(MODELS, st.data())
def test_table_has_the_choices_of_packed_variables(models: dict[str, list[str]], data: st.DataObject) -> None:
    choices = {model: data.draw(st.sampled_from(versions)) for model, versions in models.items()}
    packed = {**pack_choices(choices, tuple(arrange_models(longest_of(models)))), "alias": "live"}
    name, text = make_table("prod", choices)
    tables = find_known({name: text})
    variables = {TABLE_VARIABLE: name, "alias": "live"}
    assert expand_choices(variables, tables) == expand_choices(packed)
    for model in models:
        assert find_choice(variables, variable_name(model), tables) == find_choice(packed, variable_name(model))
    assert find_choice(variables, "noModel", tables) == ""


@given(MODELS, st.data())
def test_equal_choices_have_the_same_table_and_others_another(
    models: dict[str, list[str]], data: st.DataObject
) -> None:
    choices = {model: versions[0] for model, versions in models.items()}
    shuffled = dict(data.draw(st.permutations(list(choices.items()))))
    assert make_table("prod", choices) == make_table("prod", shuffled)
    moved = data.draw(st.sampled_from(sorted(models)))
    other = make_table("prod", {**choices, moved: f"{choices[moved]}-x"})
    assert other[0] != make_table("prod", choices)[0]
    assert make_table("dev", choices)[0] != make_table("prod", choices)[0]


def test_a_model_with_a_variable_of_its_own_is_not_looked_up() -> None:
    variables = {TABLE_VARIABLE: f"prod/{'0' * 64}", "iris": "router"}
    assert find_choice(variables, "iris") == "router"
    with pytest.raises(TableError, match="cannot be read"):
        find_choice(variables, "digits")


@pytest.mark.parametrize("changed", [b'{"iris":"v2"}', b"{}", b""])
def test_other_content_than_the_name_promises_is_rejected(changed: bytes) -> None:
    name, text = make_table("prod", {"iris": "v1"})
    assert parse_table(name, text.encode()) == {"iris": "v1"}
    with pytest.raises(TableError, match="is damaged: its sha256 is"):
        parse_table(name, changed)


def test_tables_are_read_once_and_the_latest_are_kept() -> None:
    tables = dict(make_table("prod", {"iris": f"v{number}"}) for number in range(4))
    reads: list[str] = []
    is_up = True

    def fetch(name: str) -> bytes:
        reads.append(name)
        if not is_up:
            raise TableError("no bucket")
        return tables[name].encode()

    find = ChoiceTables(fetch, most=2)
    first, second, third, fourth = tables
    assert [find(name)["iris"] for name in (first, second, first, third)] == ["v0", "v1", "v0", "v2"]
    assert reads == [first, second, third]
    is_up = False
    # Requests with a table that was read are answered although the bucket cannot be reached.
    assert [find(name)["iris"] for name in (first, third)] == ["v0", "v2"]
    for name in (second, fourth):
        with pytest.raises(TableError, match="no bucket"):
            find(name)
    is_up = True
    assert find(fourth) == {"iris": "v3"}


def test_tables_in_a_folder_are_found_by_their_names_only(tmp_path: Path) -> None:
    name, text = make_table("prod", {"bert-base": "v1"})
    known, known_text = make_table("prod", {"bert-base": "v2"})
    (tmp_path / table_path(name)).parent.mkdir()
    (tmp_path / table_path(name)).write_text(text)
    find = open_folder(tmp_path, {known: known_text})
    assert (find(name), find(known)) == ({"bertBase": "v1"}, {"bertBase": "v2"})
    with pytest.raises(TableError, match="No such file"):
        find(f"dev/{name.partition('/')[2]}")
    for odd in ("../secrets", "prod/abc", f"a/b/{'0' * 64}", ""):
        assert not is_table_name(odd)
        with pytest.raises(TableError, match="is not the name of a table"):
            find(odd)


def test_names_and_the_response_without_a_table() -> None:
    assert [*names_of({TABLE_VARIABLE: "a"}, {"iris": "v1"}, {TABLE_VARIABLE: "b"}, {TABLE_VARIABLE: "a"})] == [
        "a",
        "b",
    ]
    error = refuse_unreadable(TableError("s3://b/choices/x.json cannot be read: S3 answered 403"))
    assert (error.status, error.code) == (503, "CHOICES_UNREADABLE")
    assert "S3 answered 403" in error.message
    assert "`pulumi up`" in error.message
