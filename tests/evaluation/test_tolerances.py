"""Tolerances by ROI: the built-in ones, a department's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.evaluation.tolerances import Tolerances, load_tolerances


def test_the_built_in_ones_know_organs_by_any_of_their_names() -> None:
    built_in = load_tolerances()
    for names, mm in (
        (("Parotid_L", "parotid_l", "Left Parotid"), 2.85),
        (("Bone_Mandible", "Mandible"), 1.01),
        (("SpinalCord", "Spinal Cord"), 2.93),
        (("PTV_70", "Larynx", "Bladder", "SpinalCanal", "Lung_L"), 2.0),
    ):
        assert [built_in.of(name) for name in names] == [mm] * len(names)
    source = built_in.source_of("Brainstem")
    assert source is not None
    assert "e26151" in source.text
    assert built_in.source_of("Bladder") is None
    assert built_in.path_mm == 0


def test_a_departments_own(tmp_path: Path) -> None:
    path = tmp_path / "taus.yaml"
    path.write_text(
        "default_mm: 3\nsources:\n- text: our survey\n  rois_mm: {Bladder: 1.5}\n", encoding="utf-8"
    )
    own = load_tolerances(path)
    assert (own.of("bladder"), own.of("Parotid_L")) == (1.5, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: 3", "did you mean 'default_mm'"),
        ("default_mm: -1", "0 or more"),
        ("default_mm: wide", "does not fit"),
        ("a: [", "not YAML"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "taus.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_tolerances(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tolerances(tmp_path / "nowhere.yaml")


def test_described_with_their_sources() -> None:
    nikolov, default = load_tolerances().described(["Brainstem", "Larynx", "Parotid_L"])
    assert nikolov.startswith("Brainstem 2.5 mm, Parotid_L 2.85 mm: Nikolov et al.")
    assert default == "Larynx 2 mm: default"
    assert Tolerances(default_mm=1).described(["Brainstem"]) == ("Brainstem 1 mm: default",)


def test_one_for_all() -> None:
    assert Tolerances(default_mm=1).of("Parotid_L") == 1
