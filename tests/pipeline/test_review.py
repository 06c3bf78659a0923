"""`review`: verdicts on contours that anybody drew, by their names in the file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from test_predict import drawn, make_patient, model_dir

import contour_ai
from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import InputError
from contour_ai.report.review_record import read_review
from contour_ai.settings import to_mapping
from contour_ai.volume import Structures

__all__ = ["model_dir"]  # a fixture
Bool = NDArray[np.bool_]


def patient_with(folder: Path, contours: Mapping[str, Bool], *, patient_id: str = "Doe^1") -> Path:
    """The patient of `test_predict` with these contours."""
    make_patient(folder, patient_id=patient_id)
    ct = read_ct(folder / "ct")
    write_structures(
        folder / "rs.dcm", Structures.from_masks(dict(contours), ct.grid), ct, Provenance(label="clinic")
    )
    return folder


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bool]:
    folder = make_patient(tmp_path_factory.mktemp("patient"))
    return drawn(read_ct(folder / "ct").grid)[1]


def test_good_contours_are_clear_and_unknown_ones_are_judged_by_geometry(
    tmp_path: Path, model_dir: Path, masks: dict[str, Bool]
) -> None:
    target, gap = np.zeros_like(masks["Body"]), masks["Brighter"].copy()
    target[4:8, 18:24, 20:30] = masks["Body"][4:8, 18:24, 20:30]
    gap[np.flatnonzero(gap.any(axis=(1, 2)))[2]] = False
    patient = patient_with(
        tmp_path / "in",
        {
            "bright": masks["Bright"],
            "BRIGHTER": masks["Brighter"],
            "PTV 60": target,
            "PTV 66": target,
            "zGap": gap,
        },
    )
    found = contour_ai.review(patient, model_dir, tmp_path / "out")
    rois = found.record.rois
    assert list(rois) == ["bright", "BRIGHTER", "PTV 60", "PTV 66", "zGap"]
    assert rois["bright"].verdict == "clear" and rois["bright"].judged_by == "model"
    assert rois["BRIGHTER"].verdict == "clear" and rois["BRIGHTER"].known_as == "Brighter"
    assert rois["PTV 60"].judged_by == "geometry" and rois["PTV 60"].known_as is None
    assert rois["PTV 60"].findings[0].reason == "the same voxels as PTV 66"
    assert rois["zGap"].verdict == "look" and rois["zGap"].findings[0].code == "slice_gaps"
    assert rois["zGap"].findings[0].slices_from_1
    assert found.verdict.verdict == "look" and found.record.not_in_file == ("Never",)
    assert found.folder is not None
    content = json.loads((found.folder / "review.json").read_text(encoding="utf-8"))
    assert to_mapping(read_review(found.folder / "review.json")) == content
    assert content["rois"]["zGap"]["verdict"] == "look" and content["limits"] == "general"
    page = (found.folder / "review.html").read_text(encoding="utf-8")
    assert "the same voxels as PTV 66" in page and "http" not in page.split("</style>")[1]


def test_contours_that_belong_elsewhere_stop(tmp_path: Path, model_dir: Path, masks: dict[str, Bool]) -> None:
    swapped = np.roll(masks["Brighter"], 12, axis=1)
    elsewhere = {"Bright": swapped, "Brighter": masks["Bright"] & ~masks["Brighter"]}
    patient = patient_with(tmp_path / "in", elsewhere)
    done = CliRunner().invoke(
        cli, ["review", str(patient), "--model", str(model_dir), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 7, done.output
    content = json.loads((tmp_path / "out" / "Doe_1" / "review.json").read_text(encoding="utf-8"))
    assert content["verdict"] == "stop"
    assert "may belong to another CT" in content["findings"][0]["reason"]
    assert content["rois"]["Brighter"]["findings"][0]["code"] == "other_organ"
    assert "stop" in done.stdout and "general ones are used" in done.stderr


def test_an_organ_of_the_other_sex_is_looked_at(
    tmp_path: Path, model_dir: Path, masks: dict[str, Bool]
) -> None:
    patient = patient_with(tmp_path / "in", {"Brighter": masks["Brighter"], "prostata": masks["Bright"]})
    for path in (patient / "ct").iterdir():
        slice_file = pydicom.dcmread(path)
        slice_file.PatientSex = "F"
        slice_file.save_as(path)
    found = contour_ai.review(patient, model_dir, tmp_path / "out").record.rois
    assert found["Brighter"].verdict == "clear" and found["prostata"].verdict == "look"
    assert found["prostata"].findings[0].reason == "PatientSex is F, and this is an organ of men"


def test_a_cohort_is_judged_to_its_end_the_worst_first(
    tmp_path: Path, model_dir: Path, masks: dict[str, Bool]
) -> None:
    good = patient_with(tmp_path / "a", {"Brighter": masks["Brighter"]}, patient_id="A")
    half = masks["Brighter"].copy()
    ks = np.flatnonzero(half.any(axis=(1, 2)))
    half[ks[len(ks) // 5 :]] = False
    cut = patient_with(tmp_path / "b", {"Brighter": half}, patient_id="B")
    alone = make_patient(tmp_path / "c", patient_id="C")
    told = [str(good), str(cut), str(alone), "--model", str(model_dir), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["review", *told])
    assert done.exit_code == 3 and "There is no structure set to review" in done.stderr
    assert "2 of 3 patients reviewed: 0 stop, 1 look, 1 clear" in done.stderr
    page = (tmp_path / "out" / "review.html").read_text(encoding="utf-8")
    assert page.index("B/review.html") < page.index("A/review.html")
    with pytest.raises(InputError, match="no structure set to review"):
        contour_ai.review(alone, model_dir)


def test_patients_with_one_id_do_not_replace_each_other(
    tmp_path: Path, model_dir: Path, masks: dict[str, Bool]
) -> None:
    patients = [patient_with(tmp_path / name, masks) for name in ("a", "b")]
    told = [*map(str, patients), "--model", str(model_dir), "--out", str(tmp_path / "out")]
    for more in ([], ["--overwrite"]):
        done = CliRunner().invoke(cli, ["review", *told, *more])
        assert done.exit_code in (0, 7), done.stderr
        assert len(list((tmp_path / "out").glob("*/review.json"))) == 2


def test_which_of_several_structure_sets(tmp_path: Path, model_dir: Path, masks: dict[str, Bool]) -> None:
    patient = patient_with(tmp_path / "in", {"Brighter": masks["Brighter"]})
    ct = read_ct(patient / "ct")
    other = Structures.from_masks({"Bright": masks["Bright"]}, ct.grid)
    write_structures(patient / "again.dcm", other, ct, Provenance(label="second"))
    with pytest.raises(InputError, match="which one is to be reviewed"):
        contour_ai.review(patient, model_dir)
    by_label = contour_ai.review(
        patient, model_dir, options=contour_ai.ReviewOptions(structure_set="second*")
    )
    assert list(by_label.record.rois) == ["Bright"] and by_label.folder is None
    named = contour_ai.review(
        patient, model_dir, options=contour_ai.ReviewOptions(rtstruct=patient / "rs.dcm")
    )
    assert list(named.record.rois) == ["Brighter"]


def test_the_page_shows_what_is_not_clear_in_three_planes(
    tmp_path: Path, model_dir: Path, masks: dict[str, Bool]
) -> None:
    moved = np.roll(masks["Bright"], 12, axis=2)
    gap = masks["Brighter"].copy()
    gap[np.flatnonzero(gap.any(axis=(1, 2)))[2]] = False
    for n, contours in enumerate(({"Bright": moved, "zGap": gap}, {"Bright": masks["Bright"]})):
        patient_with(tmp_path / f"in{n}", contours, patient_id=f"P{n}")
    out = tmp_path / "out"
    found = contour_ai.review(tmp_path / "in0", model_dir, out)
    assert found.record.rois["Bright"].verdict != "clear" and list(found.worst) == ["Bright"]
    assert found.folder is not None
    page = (found.folder / "review.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2 and "http" not in page.replace("http-equiv", "")
    bright, gap_at = page.index("alt='Bright, Slice "), page.index("alt='zGap, Slice ")
    assert bright < gap_at and "Solid: the contour; dashed: what the model finds." in page
    assert "badge look" in page or "badge stop" in page
    source = page[page.index("base64,") + 7 :].split("'")[0]
    picture = Image.open(io.BytesIO(base64.b64decode(source)))
    assert picture.width == 3 * 390 and np.asarray(picture.convert("L")).std() > 10
    args = ["review", str(tmp_path / "in0"), str(tmp_path / "in1"), "--out", str(tmp_path / "two")]
    result = CliRunner().invoke(cli, [*args, "--model", str(model_dir)])
    assert result.exit_code in (0, 7), result.output
    both = (tmp_path / "two" / "review.html").read_text(encoding="utf-8")
    assert both.index("P0/review.html") < both.index("P1/review.html")
    assert both.count("data:image/jpeg;base64,") == 1, "the worst ROI of the patient who is not clear"
