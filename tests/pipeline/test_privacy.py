"""Pseudonyms in models, and text without the folders of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.pipeline._train.record import _worst
from contour_ai.pipeline.places import without_folders
from contour_ai.pipeline.pseudonym_file import PSEUDONYMS_FILE, pseudonyms


def test_pseudonyms_stay_and_tell_nothing(tmp_path: Path) -> None:
    first = pseudonyms(tmp_path, ["Müller", "P2"])
    assert sorted(first) == ["Müller", "P2"] and len(set(first.values())) == 2
    assert all(name.startswith("patient-") for name in first.values())
    again = pseudonyms(tmp_path, ["P3", "P2"])
    assert {patient: again[patient] for patient in first} == first
    assert pseudonyms(tmp_path / "other", ["P2"])["P2"] != first["P2"], (
        "drawn by chance, not made from the ID"
    )
    if os.name != "nt":
        assert (tmp_path / PSEUDONYMS_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / PSEUDONYMS_FILE).write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="list of pseudonyms cannot be read"):
        pseudonyms(tmp_path, ["P2"])


def test_the_worst_are_named_by_pseudonym_or_where_public_by_id() -> None:
    patients = {"P1": {"Brainstem": 0.2}, "P2": {"Brainstem": 0.9}}
    assert _worst(patients, {"P1": "patient-a", "P2": "patient-b"}) == [
        "patient-a: Brainstem 0.200",
        "patient-b: Brainstem 0.900",
    ]
    assert _worst(patients, {})[0] == "P1: Brainstem 0.200"


@dataclass(frozen=True)
class Page:
    title: str
    notes: tuple[str, ...]
    facts: dict[str, object]


def test_paths_are_shortened_wherever_they_stand(tmp_path: Path) -> None:
    data = tmp_path / "archive"
    page = Page(
        f"{data}",
        (f"where: {data / 'P1' / 'rs.dcm'}: no contour", "nothing"),
        {"n": 3, "list": [f"{data}{os.sep}P2"]},
    )
    shortened = without_folders(page, [data])
    assert shortened == Page(
        "archive", (f"where: {Path('P1', 'rs.dcm')}: no contour", "nothing"), {"n": 3, "list": ["P2"]}
    )
    assert without_folders("as it is", [Path(), Path("/")]) == "as it is"
