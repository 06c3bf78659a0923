"""Settings are typed and explained; what is not understood is refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pytest
import yaml

from contour_ai.errors import ConfigError
from contour_ai.schemas import json_schema
from contour_ai.settings import commented_yaml, from_mapping, to_mapping, to_yaml


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    """How fast,
    per step."""
    kind: Literal["poly", "cosine"] = "poly"
    """Its shape."""


@dataclass(frozen=True)
class Outer:
    name: str
    """What it is called."""
    windows: tuple[tuple[float, float], ...] = ((-160.0, 240.0),)
    """Low and high."""
    count: int | None = None
    """How many."""
    inner: Inner = field(default_factory=Inner)
    """The rest."""


class Named(NamedTuple):
    what: str
    number: int


@dataclass(frozen=True)
class WithNamed:
    """A list of three in a file."""

    entries: tuple[Named, ...] = ()


def test_a_named_tuple_is_a_list_in_a_file() -> None:
    record = WithNamed((Named("a", 1), Named("b", 2)))
    assert to_mapping(record) == {"entries": [["a", 1], ["b", 2]]}
    read = from_mapping(WithNamed, to_mapping(record))
    assert read == record and read.entries[1].number == 2
    for wrong, message in ((["a"], "list of 2 values"), (["a", "b"], "a whole number")):
        with pytest.raises(ConfigError, match=message):
            from_mapping(WithNamed, {"entries": [wrong]})
    items = json_schema(WithNamed, "x")["properties"]["entries"]["items"]
    assert [item["type"] for item in items["prefixItems"]] == ["string", "integer"]


def test_round_trip_through_yaml() -> None:
    outer = Outer("x", ((-1.0, 2.0), (3.0, 4.5)), 3, Inner(1e-3, "cosine"))
    assert from_mapping(Outer, yaml.safe_load(to_yaml(to_mapping(outer)))) == outer


def test_commented_yaml_explains_every_key_and_reads_back() -> None:
    text = commented_yaml(Outer("x"))
    for words in ("# What it is called.", "# How fast, per step.", "  kind: poly"):
        assert words in text
    assert from_mapping(Outer, yaml.safe_load(text)) == Outer("x")


def test_unknown_key_names_the_nearest_and_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, {"name": "x", "inner": {"rat": 1}}, where="a.yaml")
    assert str(caught.value) == (
        "Unknown key 'inner.rat'.\n  where: a.yaml\n  expected: rate, kind\n  what to do: did you mean 'inner.rate'?"
    )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "The key name is missing."),
        ({"name": 3}, "The value of name does not fit.\n  found: 3 (int)\n  expected: text"),
        ({"name": "x", "count": True}, "expected: a whole number"),
        ({"name": "x", "inner": {"kind": "polly"}}, r"poly, cosine (did you mean poly?)"),
        ({"name": "x", "windows": [[1, 2, 3]]}, "The value of windows[0] does not fit."),
        ([], "The file must be a mapping"),
        (
            {"name": "x", "inner": "left"},
            "inner must be a mapping of keys to values.\n  found: str\n  expected: rate, kind",
        ),
    ],
)
def test_messages(mapping: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, mapping)
    assert message in str(caught.value)


def test_numbers_written_with_an_exponent_only_are_numbers() -> None:
    assert from_mapping(Inner, yaml.safe_load("rate: 1e-3")).rate == 1e-3
