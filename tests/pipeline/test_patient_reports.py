"""Reports of predictions: contours as they stand in the structure set, flags and provenance from the summary."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import InputError
from contour_ai.grid import Grid
from contour_ai.pipeline._evaluate import evaluate
from contour_ai.pipeline.report import report_of_prediction, reports_of_evaluation, shown_flags
from contour_ai.pipeline.summary import Summary, SummaryRoi, read_summary
from contour_ai.quality.verdict_record import SummaryFlag
from contour_ai.volume import Structures, Volume

GRID = Grid.axial((6, 24, 20), (3, 2, 2), (-20, -24, 50))

FLAG = {
    "code": "volume",
    "reason": "smaller than usual",
    "value": 3.25,
    "low": 4.0,
    "high": None,
    "unit": "cm3",
    "slices_from_1": [2, 3],
}


def summary(sop_instance_uid: str) -> dict:
    facts = {"name_in_file": "Parotid_L", "volume_cm3": 3.25, "flags": [FLAG]}
    lost = {"name_in_file": None, "volume_cm3": 0.0, "flags": [{"code": "empty", "reason": "nothing found"}]}
    return {
        "created": "2026-01-02T03:04:05+00:00",
        "device": "cpu, float32",
        "model": {"name": "m", "version": "1.1", "weights_sha256": "abc"},
        "input": {"notes": ["a note"]},
        "structure_set": {"sop_instance_uid": sop_instance_uid},
        "flags": [{"code": "input_metal", "reason": "metal", "value": 2, "low": None, "high": 1, "unit": ""}],
        "rois": {"Parotid_L": facts, "Larynx": lost},
    }


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    mask = np.zeros(GRID.shape_kij, bool)
    mask[1:4, 8:14, 2:6] = True
    image = Volume(np.zeros(GRID.shape_kij, np.int16), GRID)
    ct = write_ct(
        tmp_path / "data" / "ct",
        image,
        PatientIdentity(patient_id="P<1>", patient_name="P", study_date="20260101"),
        uid_seed="report",
    )
    for path, name in (("data/RS.dcm", "Left Parotid"), ("out/RS.dcm", "Parotid_L")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        structures = Structures.from_masks(
            {name: mask, "Larynx": ~mask} if "data" in path else {name: mask}, GRID
        )
        written = write_structures(tmp_path / path, structures, ct, Provenance(label="TEST"), uid_seed=path)
    content = summary(written.sop_instance_uid)
    (tmp_path / "out" / "summary.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def content_of(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"))
    assert found is not None
    return json.loads(found[1])


def check(content: dict) -> None:
    assert content["title"] == "P<1>"
    assert content["subtitle"].startswith("m 1.1")
    assert [(f["roi"], f["code"], f["figure"], f["slices"]) for f in content["flags"]] == [
        ("", "input_metal", "input metal 2 (usual: at most 1)", []),
        ("Parotid_L", "volume", "volume 3.25 cm3 (usual: at least 4 cm3)", [1, 2]),
        ("Larynx", "empty", "", []),
    ]
    gland, larynx = content["rois"]
    assert gland["predicted"]["slices"] == gland["reference"]["slices"] == [1, 2, 3]
    assert (gland["figure"], larynx["predicted"], larynx["figure"]) == ("1.000", None, "0.000")
    assert content["provenance"]["Model"]["weights_sha256"] == "abc"
    assert content["notes"][0] == "a note"
    assert "volume, density and position were not checked" in content["notes"][1]
    assert content["flagsKnown"]


def test_of_a_prediction(patient: Path) -> None:
    ct = read_ct(patient / "data" / "ct")
    path = patient / "report.html"
    found = read_summary(patient / "out" / "summary.json")
    report_of_prediction(path, ct, patient / "out" / "RS.dcm", patient / "data" / "RS.dcm", found)
    check(content_of(path))
    report_of_prediction(patient / "alone.html", ct, patient / "out" / "RS.dcm", None, found)
    alone = content_of(patient / "alone.html")
    assert (alone["figure"], alone["rois"][0]["figure"], alone["rois"][0]["reference"]) == (
        "cm³",
        "3.2",
        None,
    )
    with pytest.raises(InputError, match="needs the CT's pixels"):
        blind = read_ct(patient / "data" / "ct", with_pixels=False)
        report_of_prediction(patient / "blind.html", blind, patient / "out" / "RS.dcm", None, found)


def test_predict_writes_it_when_asked(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    patient = str(root / "sample_data" / "phantom-pelvis-01")
    more = [
        "--model",
        str(root / "models" / "phantom-pelvis"),
        "--device",
        "cpu",
        "--no-overlays",
        "--report",
    ]
    result = CliRunner().invoke(cli, ["predict", patient, "--out", str(tmp_path), *more])
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.rglob("report.html")
    content, found = content_of(path), json.loads((path.parent / "summary.json").read_text(encoding="utf-8"))
    assert [roi["name"] for roi in content["rois"]] == list(found["rois"])
    assert all(roi["predicted"] and roi["reference"] for roi in content["rois"])
    for roi in content["rois"]:
        if roi["name"] in found["scores"]["dice"]:
            assert float(roi["figure"]) == pytest.approx(found["scores"]["dice"][roi["name"]], abs=6e-4)
    flags = sum(len(roi["flags"]) for roi in found["rois"].values()) + len(found["flags"])
    assert len(content["flags"]) == flags


def test_of_an_evaluation_takes_flags_from_the_summary_beside_the_prediction(patient: Path) -> None:
    result = evaluate(patient / "out", patient / "data", rois=["Parotid_L", "Larynx"])
    (patient / "pages").mkdir()
    (path,) = reports_of_evaluation(patient / "pages", result)
    assert path.name == "P_1.html"
    check(content_of(path))
    # A summary of another structure set is not this prediction's.
    (patient / "out" / "summary.json").write_text(json.dumps(summary("1.2.3")), encoding="utf-8")
    (patient / "again").mkdir()
    (path,) = reports_of_evaluation(patient / "again", result)
    content = content_of(path)
    assert (content["flags"], content["flagsKnown"]) == ([], False)
    assert "flags are not known" in content["notes"][0]


def test_flags_of_a_summary_without_figures() -> None:
    assert shown_flags(Summary()) == []
    one = SummaryFlag(code="c", reason="r", value=1.5, low=2, high=3, unit="mm")
    (flag,) = shown_flags(Summary(flags=(one,)))
    assert flag.figure == "c 1.5 mm (usual: at least 2 mm, at most 3 mm)"


def test_reasons_of_verdicts_come_before_flags_the_gravest_first() -> None:
    def one(reason: str) -> tuple[SummaryFlag]:
        return (SummaryFlag(code="x", reason=reason, slices_from_1=(3,)),)

    def roi(verdict: str, flags: tuple[SummaryFlag, ...], findings: tuple[SummaryFlag, ...]) -> SummaryRoi:
        return SummaryRoi(name_in_file="x", verdict=verdict, flags=flags, findings=findings)

    rois = {
        "A": roi("clear", one("a flag"), ()),
        "B": roi("look", one("another"), one("small")),
        "C": roi("stop", (), one("absurd")),
    }
    judged = shown_flags(Summary(verdict="look", findings=one("of the scan"), flags=one("image"), rois=rois))
    assert [(f.roi, f.reason) for f in judged] == [("", "of the scan"), ("C", "absurd"), ("B", "small")]
    assert judged[0].slices == (2,)
    earlier = {name: roi("", found.flags, ()) for name, found in rois.items()}
    before = shown_flags(Summary(flags=one("image"), rois=earlier))
    assert [f.reason for f in before] == ["image", "a flag", "another"]
