"""Evaluating RTSTRUCT files and folders: pairing by UID, names, what is missing, the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import InputError
from contour_ai.files import MANIFEST
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice
from contour_ai.pipeline._evaluate import evaluate, evaluate_versus
from contour_ai.pipeline.report import reports_of_evaluation
from contour_ai.volume import Structures, Volume

GRID = Grid.axial((6, 24, 20), (3, 2, 2), (-20, -24, 50))


def boxed(*box: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(GRID.shape_kij, bool)
    mask[tuple(slice(*b) for b in box)] = True
    return mask


CORD = boxed((0, 6), (14, 18), (9, 12))
CORD_PREDICTED = boxed((0, 5), (14, 18), (9, 13))
GLAND = boxed((2, 5), (8, 14), (2, 6))


def write_patient(
    root: Path,
    name: str,
    reference: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    *,
    patient_id: str = "",
) -> None:
    """`root/data/<name>` with CT and reference, `root/out/<name>` with a prediction."""
    folder = root / "data" / name
    folder.mkdir(parents=True)
    image = Volume(np.zeros(GRID.shape_kij, np.int16), GRID)
    identity = PatientIdentity(patient_id=patient_id or name, patient_name=name, study_date="20260101")
    ct = write_ct(folder / "ct", image, identity, uid_seed=name)
    for path, masks in ((folder / "RS.dcm", reference), (root / "out" / name / "RS.x.dcm", predicted)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_structures(
            path,
            Structures.from_masks(masks, GRID),
            ct,
            Provenance(label="TEST"),
            uid_seed=str(path.relative_to(root)),
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    write_patient(
        root,
        "A",
        {"SpinalCord": CORD, "Parotid_L": GLAND, "PTV": GLAND},
        {"SpinalCord": CORD_PREDICTED, "Parotid_L": GLAND},
    )
    write_patient(root, "B", {"Spinal Cord": CORD, "Left Parotid": GLAND}, {"SpinalCord": CORD})
    write_patient(root, "C", {"Parotid_L": GLAND}, {"SpinalCord": CORD, "Parotid_L": GLAND})
    return root


def test_two_files_with_the_ct_beside_one_of_them(root: Path) -> None:
    result = evaluate(root / "out" / "A" / "RS.x.dcm", root / "data" / "A" / "RS.dcm")
    assert [row.roi for row in result.rows] == ["SpinalCord", "Parotid_L"]
    assert result.rows[0].dsc == pytest.approx(dice(CORD, CORD_PREDICTED, neither=0.0))
    assert result.rows[0].missed_slices == 1
    assert result.rows[1].dsc == 1
    assert result.notes == ("in the reference, in no prediction, and not compared: PTV (1 patient)",)


def test_folders_are_paired_by_uid_whatever_their_names(root: Path, tmp_path: Path) -> None:
    for n, name in enumerate("CAB"):
        shutil.copytree(root / "out" / name, tmp_path / f"folder{n}")
    result = evaluate(tmp_path, root / "data")
    assert [(row.patient, row.roi, row.status) for row in result.rows] == [
        ("A", "SpinalCord", "both"),
        ("A", "Parotid_L", "both"),
        ("B", "SpinalCord", "both"),
        ("B", "Parotid_L", "prediction missing"),
        ("C", "SpinalCord", "reference missing"),
        ("C", "Parotid_L", "both"),
    ]
    cord, gland = result.summary
    assert (cord.n, cord.reference_missing) == (2, 1)
    assert (gland.n, gland.prediction_missing) == (3, 1)
    assert gland.spread["dsc"].mean == pytest.approx(2 / 3)
    assert any("Left Parotid was taken for Parotid_L" in note for note in result.notes)


def test_a_copy_of_the_reference_agrees_with_it(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "data" / "A" / "RS.dcm", tmp_path / "copy.dcm")
    for sides in ((tmp_path, root / "data"), (root / "data", tmp_path)):
        result = evaluate(*sides)
        assert [row.dsc for row in result.rows] == [1, 1, 1]


def test_only_the_rois_asked_for(root: Path) -> None:
    result = evaluate(root / "out" / "A", root / "data" / "A", rois=["PTV"], tau=1)
    (row,) = result.rows
    assert (row.roi, row.status, row.tau_mm) == ("PTV", "prediction missing", 1)


def test_refusals(root: Path, tmp_path: Path) -> None:
    prediction, reference = root / "out" / "A" / "RS.x.dcm", root / "data" / "A" / "RS.dcm"
    with pytest.raises(InputError, match="No such file or folder"):
        evaluate(tmp_path / "nowhere", reference)
    with pytest.raises(InputError, match="no structure set in PREDICTED"):
        evaluate(root / "data" / "A" / "ct", reference)
    with pytest.raises(InputError, match="on both sides"):
        evaluate(reference, reference)
    with pytest.raises(InputError, match="drawn on the same CT"):
        evaluate(root / "out" / "B" / "RS.x.dcm", reference)
    lonely = Path(shutil.copy(reference, tmp_path / "RS.dcm"))
    with pytest.raises(
        InputError, match="The CT that these structure sets were drawn on is not here"
    ) as caught:
        evaluate(prediction, lonely)
    assert "--ct DIR" in str(caught.value)
    found = evaluate(prediction, lonely, ct=root / "data" / "A" / "ct")
    assert len(found.rows) == 2


def test_two_references_of_one_patient_are_not_guessed_between(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data" / "A", tmp_path / "A")
    shutil.copy(root / "out" / "A" / "RS.x.dcm", tmp_path / "A" / "second.dcm")
    with pytest.raises(InputError, match="2 structure sets could be its reference"):
        evaluate(root / "out" / "A", tmp_path)


def test_command_prints_and_writes(root: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(root / "out"), str(root / "data"), "--out", str(tmp_path / "scores")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "SpinalCord" in result.output
    assert "Dice similarity coefficient" in result.output
    names = [MANIFEST, "evaluation.json", "metrics.csv", "summary.csv"]
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == names
    content = json.loads((tmp_path / "scores" / "evaluation.json").read_text(encoding="utf-8"))
    assert len(content["rows"]) == 6
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_tolerances_by_roi_one_for_all_and_from_a_file(root: Path, tmp_path: Path) -> None:
    sides = [str(root / "out" / "A"), str(root / "data" / "A")]
    own = tmp_path / "taus.yaml"
    own.write_text("path_mm: 1.5\nsources: [{text: ours, rois_mm: {SpinalCord: 1.25}}]\n", encoding="utf-8")
    expected = {None: [2.93, 2.85], "1.5": [1.5, 1.5], str(own): [1.25, 2.0]}
    for n, (tau, taus) in enumerate(expected.items()):
        out = tmp_path / str(n)
        more = [] if tau is None else ["--tau", tau]
        result = CliRunner().invoke(cli, ["evaluate", *sides, "--out", str(out), *more])
        assert result.exit_code == 0, result.output
        rows = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["rows"]
        assert [row["tau_mm"] for row in rows] == taus
    assert rows[0]["path_tau_mm"] == 1.5
    wrong = CliRunner().invoke(cli, ["evaluate", *sides, "--tau", "-1"])
    assert (wrong.exit_code, "0 or more" in wrong.output) == (2, True)
    missing = CliRunner().invoke(cli, ["evaluate", *sides, "--tau", "nowhere.yaml"])
    assert (missing.exit_code, "cannot be read" in missing.output) == (4, True)


def test_two_predictions_of_the_same_patients(root: Path, tmp_path: Path) -> None:
    # The second agrees with the reference, and misses the cord of B and C altogether.
    other = tmp_path / "other"
    for name, masks in (("A", {"SpinalCord": CORD, "Parotid_L": GLAND}), ("B", {"Parotid_L": GLAND})):
        ct = read_ct(root / "data" / name / "ct", with_pixels=False)
        (other / name).mkdir(parents=True)
        structures = Structures.from_masks(masks, GRID)
        write_structures(
            other / name / "RS.dcm", structures, ct, Provenance(label="OTHER"), uid_seed=f"other {name}"
        )
    found = evaluate_versus(root / "out", other, root / "data")
    assert {row.roi for row in found.second.rows} == {"SpinalCord", "Parotid_L"}
    dsc = {c.roi: c for c in found.comparison if c.figure == "dsc"}
    cord, gland = dsc["SpinalCord"], dsc["Parotid_L"]
    assert (cord.n, cord.first_better, cord.second_better) == (2, 1, 1)
    assert (gland.n, gland.second_better, gland.equal) == (2, 1, 1)
    arguments = ["evaluate", str(root / "out"), str(root / "data"), "--versus", str(other)]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "scores"), "--report"])
    assert result.exit_code == 0, result.output
    assert "PREDICTED minus VERSUS" in result.output
    assert "Wilcoxon" in result.output
    names = {p.relative_to(tmp_path / "scores").as_posix() for p in (tmp_path / "scores").rglob("*")}
    assert {"comparison.csv", "versus/metrics.csv", "cohort.html", "patients/A.html"} <= names
    assert '"labels":["out","other"]' in (tmp_path / "scores" / "cohort.html").read_text(encoding="utf-8")


def test_reports(root: Path, tmp_path: Path) -> None:
    sides = [str(root / "out"), str(root / "data")]
    result = CliRunner().invoke(cli, ["evaluate", *sides, "--report"])
    assert (result.exit_code, "--report needs --out" in result.output) == (2, True)
    result = CliRunner().invoke(cli, ["evaluate", *sides, "--report", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "cohort.html" in result.output
    for name in "ABC":
        page = (tmp_path / "out" / "patients" / f"{name}.html").read_text(encoding="utf-8")
        assert f'"title":"{name}"' in page
        assert "Spinal Cord was taken for SpinalCord" in page or name != "B"
    cohort = (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    assert '"B":"patients/B.html"' in cohort
    one = [str(root / "out" / "A"), str(root / "data" / "A")]
    result = CliRunner().invoke(cli, ["evaluate", *one, "--report", "--out", str(tmp_path / "one")])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "one" / "cohort.html").exists()
    assert "patients/A.html" in result.output.replace("\\", "/")


def test_what_is_unusual_of_the_ct_is_said_everywhere(tmp_path: Path) -> None:
    """A copy that lacks a slice: the contours are compared on the others, and every page says so."""
    write_patient(tmp_path, "A", {"SpinalCord": CORD}, {"SpinalCord": CORD})
    write_patient(tmp_path, "B", {"SpinalCord": CORD}, {"SpinalCord": CORD})
    sorted((tmp_path / "data" / "A" / "ct").glob("*.dcm"))[2].unlink()
    sides = [str(tmp_path / "out"), str(tmp_path / "data"), "--out", str(tmp_path / "scores"), "--report"]
    result = CliRunner().invoke(cli, ["evaluate", *sides])
    assert result.exit_code == 0, result.output
    said = "A: CT: 1 slice(s) are missing"
    assert said in " ".join(result.stderr.split())
    notes = json.loads((tmp_path / "scores" / "evaluation.json").read_text(encoding="utf-8"))["notes"]
    assert [said in note for note in notes].count(True) == 1
    assert said in (tmp_path / "scores" / "cohort.html").read_text(encoding="utf-8")
    pages = [tmp_path / "scores" / "patients" / f"{name}.html" for name in "AB"]
    assert ["slice(s) are missing" in page.read_text(encoding="utf-8") for page in pages] == [True, False]


def test_an_organ_that_the_model_never_finds_is_counted(tmp_path: Path) -> None:
    """No structure set names it; the summary beside them says that it was looked for."""
    for name in "AB":
        write_patient(
            tmp_path, name, {"SpinalCord": CORD, "Parotid_L": GLAND, "PTV": GLAND}, {"SpinalCord": CORD}
        )
    result = evaluate(tmp_path / "out", tmp_path / "data")
    assert [s.roi for s in result.summary] == ["SpinalCord"]
    said = "in the reference, in no prediction, and not compared: Parotid_L (2 patients), PTV (2 patients)"
    assert result.notes == (said,)
    assert evaluate(tmp_path / "out", tmp_path / "data", rois=["SpinalCord"]).notes == ()
    path = tmp_path / "out" / "A" / "RS.x.dcm"
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    rois = {"SpinalCord": {"name_in_file": "SpinalCord"}, "Parotid_L": {"name_in_file": None}}
    content = {"structure_set": {"sop_instance_uid": uid}, "rois": rois}
    (path.parent / "summary.json").write_text(json.dumps(content), encoding="utf-8")
    result = evaluate(tmp_path / "out", tmp_path / "data")
    gland = next(s for s in result.summary if s.roi == "Parotid_L")
    assert (gland.n, gland.prediction_missing, gland.spread["dsc"].mean) == (2, 2, 0)


def test_two_cts_of_one_patient_are_told_apart(tmp_path: Path) -> None:
    """The same PatientID twice, as before and after a new plan: nothing of one is taken for the other."""
    for name, cord in (("first", CORD), ("second", CORD_PREDICTED)):
        write_patient(tmp_path, name, {"SpinalCord": CORD}, {"SpinalCord": cord}, patient_id="P")
    result = evaluate(tmp_path / "out", tmp_path / "data")
    labels = [pair.patient for pair in result.pairs]
    assert len(set(labels)) == 2 and all(label.startswith("P (CT ...") for label in labels)
    assert sorted(row.dsc for row in result.rows) == [
        pytest.approx(dice(CORD, CORD_PREDICTED, neither=0.0)),
        1,
    ]
    both = evaluate_versus(tmp_path / "out", tmp_path / "out", tmp_path / "data")
    assert [(c.n, c.equal) for c in both.comparison if c.figure == "dsc"] == [(2, 2)]
    (tmp_path / "pages").mkdir()
    paths = reports_of_evaluation(tmp_path / "pages", result)
    texts = [path.read_text(encoding="utf-8") for path in paths[1:]]
    assert len(paths) == 3 and sorted('"1.000"' in text for text in texts) == [False, True]


def test_command_on_one_patient(root: Path) -> None:
    result = CliRunner().invoke(cli, ["evaluate", str(root / "out" / "A"), str(root / "data" / "A")])
    assert result.exit_code == 0, result.output
    assert "surface DSC (τ mm)" in result.output
    assert "(2.93)" in result.output  # the cord's own tolerance
    wrong = CliRunner().invoke(cli, ["evaluate", str(root / "out" / "A"), str(root / "data" / "B")])
    assert wrong.exit_code == 3
    assert "not compared" in wrong.output
