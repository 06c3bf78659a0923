"""ROI maps: loading, saving, applying, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from contour_ai.errors import ConfigError, OutputError
from contour_ai.structures.roi_map import RoiMap


def written(folder: Path, text: str) -> Path:
    path = folder / "roi-map.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_saved_map_reads_back_equal(tmp_path: Path) -> None:
    roi_map = RoiMap(
        rois={
            "Parotid_L": ("parotis li", "LT: PAROTID #2", "'quoted'"),
            "Brainstem": (),
            "Yes": ("no", "25", "ñandú"),
        },
        ignore=("PTV", "1,SUV_primair"),
        absent={"pelvis": ("Brainstem", "Parotid_L"), "25": ("Yes",)},
        accepted={"P1": ("Brainstem",)},
    )
    path = tmp_path / "roi-map.yaml"
    roi_map.save(path, comments={"parotis li": "12 patients", "PTV": "3 patients"}, undecided=["zHelp: 1"])
    assert RoiMap.load(path) == roi_map
    text = path.read_text(encoding="utf-8")
    assert "- parotis li  # 12 patients" in text
    assert "- PTV  # 3 patients" in text
    assert "absent:\n  pelvis: [Brainstem, Parotid_L]\n  '25': ['Yes']\n" in text
    assert "# Not decided: move each of these to a ROI above, or to ignore.\n" in text
    path.write_text(text.replace("#  - 'zHelp: 1'", "  - 'zHelp: 1'"), encoding="utf-8")
    assert RoiMap.load(path).ignore == ("PTV", "1,SUV_primair", "zHelp: 1"), "ignored without its #"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        roi_map.save(path)
    roi_map.save(path, overwrite=True)


def test_apply_maps_ignores_and_reports() -> None:
    roi_map = RoiMap(rois={"Parotid_L": ("parotis li",), "Brainstem": ()}, ignore=("PTV",))
    mapped = roi_map.apply(["Parotis LI ", "brainstem", "ptv", "Cord", "Cord"])
    assert mapped.rois == {"Parotis LI ": "Parotid_L", "brainstem": "Brainstem"}
    assert mapped.ignored == ("ptv",)
    assert mapped.unmapped == ("Cord",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "roi:\n  A: [b]\n",
            r"Unknown key in the ROI map(.|\n)*found: roi\n(.|\n)*expected: rois, ignore, absent, accepted",
        ),
        ("rois:\n  A: b\n", "wrong form"),
        ("rois: []\n", "wrong form"),
        ("ignore: [x]\n", "wrong form"),
        ("", "wrong form"),
        ("rois:\n  A: [25]\n", "no text(.|\n)*in quotes"),
        ("rois:\n  A: [no]\n", "no text(.|\n)*in quotes"),
        ("rois:\n  A: [x]\n  B: [X]\n", "stands for two ROIs(.|\n)*'x' under A and B"),
        ("rois:\n  A: [x]\n  X: [y]\n", "stands for two ROIs"),
        ("rois:\n  A: [x]\nignore: [a]\n", "both mapped and ignored(.|\n)*'a', mapped to A"),
        ("rois: [\n", "cannot be read"),
        ("rois:\n  A: [x]\nabsent: [A]\n", "wrong form(.|\n)*absent"),
        ("rois:\n  A: [x]\nabsent: {site: A}\n", "wrong form(.|\n)*absent, site"),
        ("rois:\n  A: [x]\nabsent: {25: [A]}\n", "no text(.|\n)*in quotes"),
        ("rois:\n  A: [x]\nabsent: {site: [x]}\n", "does not have(.|\n)*absent, site\n  found: x"),
        ("rois:\n  A: [x]\naccepted: {P1: [B]}\n", "does not have(.|\n)*accepted, P1\n  found: B"),
    ],
)
def test_faulty_maps_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        RoiMap.load(path)
    assert str(path) in str(caught.value)


def test_missing_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        RoiMap.load(tmp_path / "none.yaml")


def test_patterns_catch_names_and_say_which() -> None:
    roi_map = RoiMap(
        rois={"Parotid_L": ("par* l*", "re:^lt[ _]?parotid"), "Brainstem": ("brain ?tem",)},
        ignore=("PTV*", "re:^z[_ ]", "Dose 50[%]"),
    )
    mapped = roi_map.apply(
        ["Par gland left", "LT_Parotid", "brain stem", "ptv70", "z_ring", "Dose 50[%]", "Dose 50%", "aPTV"]
    )
    assert mapped.rois == {
        "Par gland left": "Parotid_L",
        "LT_Parotid": "Parotid_L",
        "brain stem": "Brainstem",
    }
    assert mapped.ignored == ("ptv70", "z_ring", "Dose 50[%]")
    assert mapped.unmapped == ("Dose 50%", "aPTV")
    assert mapped.caught["PTV*"] == ("ptv70",)
    assert mapped.caught["re:^lt[ _]?parotid"] == ("LT_Parotid",)
    assert mapped.caught["Parotid_L"] == ()


@pytest.mark.parametrize(
    ("rois", "ignore", "name", "message"),
    [
        (
            {"A": ("x*",), "B": ("*y",)},
            (),
            "xy",
            r"stands for two ROIs(.|\n)*'xy' under A \(pattern 'x\*'\) and B \(pattern '\*y'\)",
        ),
        (
            {"A": ("x*",)},
            ("*y",),
            "xy",
            r"both mapped and ignored(.|\n)*'xy', mapped to A \(pattern 'x\*'\), ignored by '\*y'",
        ),
        (
            {"A": ("xy",)},
            ("re:y$",),
            None,
            r"both mapped and ignored(.|\n)*'xy', mapped to A, ignored by 're:y\$'",
        ),
        (
            {"Parotid_L": (), "B": ("par*",)},
            (),
            None,
            r"two ROIs(.|\n)*'parotid_l' under Parotid_L and B \(pattern 'par\*'\)",
        ),
    ],
)
def test_two_rules_that_claim_one_name_are_refused(
    rois: dict[str, tuple[str, ...]], ignore: tuple[str, ...], name: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        RoiMap(rois=rois, ignore=ignore).apply([name] if name else [])


def test_a_faulty_regular_expression_is_refused_when_the_map_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no regular expression(.|\n)*re:\("):
        RoiMap.load(written(tmp_path, "rois:\n  A: ['re:(']\n"))


def test_patterns_survive_saving(tmp_path: Path) -> None:
    roi_map = RoiMap(rois={"A": ("re:^a[ _]?b", "a*")}, ignore=("*ring*", "re:(?<![a-z])gy(?![a-z])"))
    roi_map.save(tmp_path / "map.yaml", comments={"*ring*": "12 names, 40 structure sets"})
    assert RoiMap.load(tmp_path / "map.yaml") == roi_map
    assert "- '*ring*'  # 12 names, 40 structure sets" in (tmp_path / "map.yaml").read_text(encoding="utf-8")


def test_names_with_line_ends_stay_on_their_line(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    RoiMap(rois={"Brainstem": ("stem\nstem",)}, ignore=("x\ty",)).save(path, undecided=["a\nb: c"])
    lines = path.read_text().splitlines()
    assert '#  - "a\\nb: c"' in lines
    assert RoiMap.load(path).rois["Brainstem"] == ("stem\nstem",)
