"""Prediction on geometries that are no regular axial grid: contoured on the scan's own slices, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from geometries import COS15, SIN15
from test_predict import GRID, dice, drawn, make_patient, model_dir  # noqa: F401 - a fixture
from tiny_patients import write_patient

from contour_ai.bundle import load_bundle
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import load_structure_set, read_structures
from contour_ai.errors import GeometryError
from contour_ai.grid import Grid
from contour_ai.pipeline._predict import PredictOptions, predict
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.cases import prepare_cases
from contour_ai.preprocess import PreprocessSettings

SPACING_MM = GRID.spacing_mm
MIDDLE = GRID.index_to_lps([(n - 1) / 2 for n in GRID.shape_kij])


def around_the_middle(
    shape_kij: tuple[int, int, int],
    slice_offsets_mm: np.ndarray,
    along: np.ndarray,
    down: np.ndarray,
    across: np.ndarray,
) -> Grid:
    """Slices at `slice_offsets_mm` along a direction, their middles on the line through the middle of `GRID`."""
    step_i, step_j = down * SPACING_MM[1], across * SPACING_MM[2]
    corner = MIDDLE - step_i * (shape_kij[1] - 1) / 2 - step_j * (shape_kij[2] - 1) / 2
    return Grid(
        shape_kij=shape_kij,
        positions_lps=corner + slice_offsets_mm[:, None] * along,
        step_i_lps=step_i,
        step_j_lps=step_j,
    )


X, Y, Z = np.eye(3)
DOWN, ALONG = np.array([0, COS15, SIN15]), np.array([0, -SIN15, COS15])
EVEN = (np.arange(24) - 11.5) * SPACING_MM[0]
UNEQUAL = np.concatenate([EVEN[:9], EVEN[9] + 1.3 * np.arange(8), EVEN[15:] + 0.4])

GRIDS = {
    "oblique by 15 degrees": around_the_middle(GRID.shape_kij, EVEN, ALONG, DOWN, X),
    "gantry tilt of 15 degrees": around_the_middle(GRID.shape_kij, EVEN, Z, DOWN, X),
    "decubitus": around_the_middle((24, 90, 72), EVEN, Z, -X, Y),
    "coronal": around_the_middle((40, 40, 90), (np.arange(40) - 19.5) * 2.5, Y, -Z, X),
    "unequal spacing": around_the_middle((len(UNEQUAL), *GRID.shape_kij[1:]), UNEQUAL, Z, Y, X),
}


@pytest.mark.parametrize("name", GRIDS)
def test_organs_are_contoured_on_the_slices_of_the_scan(name: str, tmp_path: Path, model_dir: Path) -> None:  # noqa: F811
    grid = GRIDS[name]
    patient = make_patient(tmp_path / "in", grid=grid)
    result = predict(patient, load_bundle(model_dir), tmp_path / "out", PredictOptions(overlays=False))
    ct = read_ct(patient)
    structures = read_structures(result.path, ct)
    truth = drawn(ct.grid)[1]
    assert dice(structures.mask("Bright"), truth["Bright"]) > 0.92
    assert dice(structures.mask("Brighter"), truth["Brighter"]) > 0.88
    for contour in (c for roi in load_structure_set(result.path).rois for c in roi.contours):
        k = ct.sop_instance_uids.index(contour.image_uid)
        assert np.abs(contour.points_lps @ ct.grid.normal - ct.grid.slice_offsets_mm[k]).max() < 0.01
    said = {"unequal spacing": "not equally spaced", "gantry tilt of 15 degrees": "gantry tilt"}
    expected = said.get(name, "")
    assert any(expected in note for note in result.notes) or not expected


def test_an_organ_is_never_made_up_where_slices_are_missing(tmp_path: Path, model_dir: Path) -> None:  # noqa: F811
    patient = make_patient(tmp_path / "in")
    for _ in range(2):  # through both organs
        read_ct(patient, with_pixels=False).paths[12].unlink()
    with pytest.raises(GeometryError, match=r"2 slice\(s\) of this CT series are missing") as caught:
        predict(patient, load_bundle(model_dir), tmp_path / "out")
    text = str(caught.value)
    assert "9 mm apart" in text
    assert "export or copy the whole series again" in text
    assert not (tmp_path / "out" / "Doe_1").exists()


def test_training_leaves_out_what_lacks_slices_and_says_why(tmp_path: Path) -> None:
    for number in (1, 2):
        write_patient(tmp_path / "in" / str(number), number, {"Brainstem": (2, 8, 10)})
    (tmp_path / "in" / "2" / "ct" / "CT.0004.dcm").unlink()
    settings = PreprocessSettings(spacing_mm_kij=(6.0, 5.0, 5.0))
    found = prepare_cases(
        find_sources(tmp_path / "in").patients, ("Brainstem",), settings, tmp_path / "cache"
    )
    assert list(found.cases) == ["P1"]
    assert "1 slice(s) of this CT series are missing" in found.left_out["P2"]


def test_what_the_structure_set_says_comes_from_the_bundle(tmp_path: Path, model_dir: Path) -> None:  # noqa: F811
    bundle = load_bundle(model_dir)
    profile = tmp_path / "short.yaml"
    profile.write_text("roi_name_characters: 5\nroi_name_pattern: '[A-Za-z~0-9]'\n", encoding="utf-8")
    options = PredictOptions(overlays=False, profile=str(profile))
    result = predict(make_patient(tmp_path / "in"), bundle, tmp_path / "out", options)
    file = pydicom.dcmread(result.path)
    assert file.StructureSetLabel == file.StructureSetName == "bright"
    assert file.SeriesDescription == "contour-ai bright: not for patients"
    names = [roi.ROIName for roi in file.StructureSetROISequence]
    assert names == ["Brigh", "Bri~2", "Body"]
    for roi, asked in zip(file.StructureSetROISequence, ("Bright", "Brighter"), strict=False):
        assert f"ROI {asked}" in roi.ROIDescription.split("; ")
    assert [note for note in result.notes if "is written as" in note] == [
        "ROI Bright is written as Brigh",
        "ROI Brighter is written as Bri~2",
    ]
    for roi, item in zip(bundle.rois[:2], file.ROIContourSequence, strict=False):
        assert tuple(map(int, item.ROIDisplayColor)) == roi.color
