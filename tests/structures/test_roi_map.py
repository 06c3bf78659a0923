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
        {
            "Parotid_L": ("parotis li", "LT: PAROTID #2", "'quoted'"),
            "Brainstem": (),
            "Yes": ("no", "25", "ñandú"),
        },
        ("PTV", "1,SUV_primair"),
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
    assert "# Not decided: move each of these to a ROI above, or to ignore.\n#  - 'zHelp: 1'\n" in text
    with pytest.raises(OutputError, match="exists already"):
        roi_map.save(path)
    roi_map.save(path, overwrite=True)


def test_apply_maps_ignores_and_reports() -> None:
    roi_map = RoiMap({"Parotid_L": ("parotis li",), "Brainstem": ()}, ("PTV",))
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
