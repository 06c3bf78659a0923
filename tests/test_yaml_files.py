"""YAML of any provenance: every fault is a message, soon, and nothing is dropped or multiplied in silence."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.yaml_files import MAX_YAML_BYTES, parse_yaml, read_yaml

LETTERS = "abcdefghijkl"
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in itertools.pairwise(LETTERS)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{c}: &{c}\n  {c}: 1\n  <<: [{', '.join(['*' + p] * 9)}]\n" for p, c in itertools.pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, "aliases that multiply"),
        ("&a [*a]", "levels deep"),
        ("[" * 100_000, "nest"),
        ("[" * 500 + "]" * 500, "levels deep"),
        ("{a: " * 5000, "levels deep"),
        ("- " * 100_000, "levels deep"),
        ("? " * 100_000, "levels deep"),
        ("\n".join(" " * n + "a:" for n in range(2000)), "levels deep"),
        ("d: 2001-99-99", "month"),
        ('a: "C:\\Users\\node"', "write a path without quotes"),
        ('a: "D:\\data"', "write a path without quotes"),
        ("d: !!timestamp foo", "does not fit its type"),
        ('!!int ""', "does not fit its type"),
        ("!!bool xyz", "does not fit its type"),
        ("!!float abc", "abc"),
        ("a: " + "9" * 5000, "digits"),
        ("? [a]\n: b", "unhashable"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("!!python/object/apply:os.system [ls]", "constructor"),
        ("a: \x00", "x0000"),
        ("a:\n\t- b", "token"),
    ],
)
def test_what_cannot_be_used(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


def test_merge_keys_stay_small():
    try:
        merged = parse_yaml(MERGES)
    except ValueError as error:  # versions of PyYAML that keep every copy
        assert "merge keys that multiply" in str(error)
    else:
        assert len(merged["l"]) == 12


def test_ordinary_yaml_is_as_ever():
    text = "a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n'1': text\n1: number\n"
    parsed = parse_yaml(text)
    assert parsed["b"] == {"x": 2, "y": [1, 2]}
    assert parsed["c"] == [{"x": 1, "y": [1, 2]}] * 2
    assert parsed["1"] == "text" and parsed[1] == "number"
    assert parse_yaml("") is None


def test_files(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(path, "The file") == {"a": 1}
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(
        ConfigError, match=r"The file cannot be read\.(.|\n)*a\.yaml(.|\n)*line 1 is not in UTF-8"
    ):
        read_yaml(path, "The file")
    with pytest.raises(ConfigError, match=r"The file cannot be read(.|\n)*No such file(.|\n)*look elsewhere"):
        read_yaml(tmp_path / "b.yaml", "The file", fix="look elsewhere")
    with path.open("wb") as file:
        file.truncate(MAX_YAML_BYTES + 1)
    with pytest.raises(ConfigError, match="too large"):
        read_yaml(path, "The file")
