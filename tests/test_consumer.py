"""The public API on a sample patient, through the program of `consumer.py`; installed packages are typed for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import consumer
import numpy as np
import pytest
from pipeline.tiny_patients import write_patient

import contour_ai
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures

SAMPLE = Path(__file__).parents[1] / "sample_data" / "phantom-headneck-01"
MODEL = "phantom-headneck"


@pytest.fixture(scope="module")
def found() -> contour_ai.Prediction:
    options = contour_ai.PredictOptions(device="cpu")
    return contour_ai.predict(str(SAMPLE), MODEL, options=options)


def test_a_prediction_in_memory(found: contour_ai.Prediction) -> None:
    assert found.path is None and found.folder is None and found.montage is None
    assert found.verdict in ("clear", "look") and found.patient_id and found.model.startswith(MODEL)
    assert found.masks.keys() == {roi.name for roi in found.rois if roi.slice_numbers}
    for mask in found.masks.values():
        assert mask.shape == found.ct.hu.shape == found.ct.grid.shape_kij and mask.dtype == bool
    assert found.dice["Brainstem"] > 0.8 and found.masks is found.masks
    assert {roi.name: roi.dice for roi in found.rois if roi.dice is not None} == found.dice
    with pytest.raises(contour_ai.NoImageError, match="without its image") as caught:
        _ = found.without_image().masks
    assert isinstance(caught.value, ValueError) and found.patient_id in str(caught.value)
    with pytest.raises(contour_ai.NoImageError, match="predict the patient again"):
        _ = found.without_image().ct


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The structure set of the same patient; one that is not there does not stop the others."""
    folder = tmp_path_factory.mktemp("out")
    (path,) = consumer.contour_all([SAMPLE, folder / "nobody"], MODEL, folder)
    return path


def test_what_is_written_holds_the_masks_in_memory(found: contour_ai.Prediction, written: Path) -> None:
    structures = read_structures(written, read_ct(SAMPLE / "ct"))
    assert set(structures.contoured()) == set(found.masks)
    for name, mask in structures.masks():
        np.testing.assert_array_equal(mask, found.masks[name], err_msg=name)


def test_volumes_and_the_worst_roi(found: contour_ai.Prediction) -> None:
    volumes = consumer.volumes_of(str(SAMPLE), MODEL)
    for roi in found.rois:
        assert volumes.get(roi.name, 0.0) == pytest.approx(roi.volume_cm3)
    name, value = consumer.worst_roi(str(SAMPLE), MODEL)
    assert found.dice[name] == value == min(found.dice.values())


def test_rows_are_a_table_as_they_are(found: contour_ai.Prediction, written: Path) -> None:
    rows = contour_ai.evaluate(written, SAMPLE).rows
    flat = [dataclasses.asdict(row) for row in rows]
    assert list(flat[0])[:4] == ["patient", "series_uid", "roi", "status"]
    assert all(isinstance(value, str | int | float) for line in flat for value in line.values())
    dice = consumer.table(written, SAMPLE)
    for roi in ("Brainstem", "SpinalCord"):
        assert dice[found.patient_id, roi] == pytest.approx(found.dice[roi])
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows)
    assert list(frame.columns) == list(flat[0]) and len(frame) == len(rows)
    assert frame.set_index("roi").loc["Brainstem", "dsc"] == pytest.approx(found.dice["Brainstem"])


def test_structures_are_copied(tmp_path: Path) -> None:
    copied = consumer.copy_structures(str(SAMPLE / "ct"), str(SAMPLE / "RS.dcm"), str(tmp_path / "RS.dcm"))
    again = read_structures(tmp_path / "RS.dcm", read_ct(SAMPLE / "ct"))
    assert again.names == copied.names
    np.testing.assert_array_equal(again.bits, copied.bits)


def test_progress_is_told() -> None:
    seen = consumer.stages_of(str(SAMPLE), MODEL)
    assert any(stage.endswith("network") for stage in seen), seen


def test_tolerances_are_built(written: Path) -> None:
    loose, tight = consumer.surface_dsc(written, SAMPLE, 20.0), consumer.surface_dsc(written, SAMPLE, 0.5)
    assert loose["SpinalCord"] == tight["SpinalCord"] and loose["Brainstem"] > tight["Brainstem"]


def test_structures_are_written_for_an_importer(tmp_path: Path) -> None:
    out = tmp_path / "bone.dcm"
    assert consumer.write_bone(str(SAMPLE / "ct"), out) == "Bone_and_m"
    assert read_structures(out, read_ct(SAMPLE / "ct")).names == ("Bone_and_m",)


def test_limits_and_configuration_are_built() -> None:
    assert consumer.department_limits().rois["Brainstem"].dsc is not None
    config, options = consumer.training("lt parotid")
    assert config.run.steps == 500 and options.roi_map is not None
    assert options.roi_map.apply(["LT Parotid"]).rois == {"LT Parotid": "Parotid_L"}


def test_train_and_commission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "contour_ai.pipeline._commission.run.self_test", lambda: ()
    )  # takes seconds; tested elsewhere
    for number in (1, 2, 3):
        write_patient(tmp_path / "archive" / str(number), number, {"Brainstem": (3, 8, 10)})
    config, limits = tmp_path / "train.yaml", tmp_path / "limits.yaml"
    config.write_text(
        "model: {name: tiny, kind: phantom}\n"
        "preprocess: {spacing_mm_kij: [6, 5, 5], windows_hu: [[-160, 240]]}\n"
        "network: {base_filters: 4}\ninput: {patch_kij: [8, 16, 16], batch_size: 1}\n"
        "run: {steps: 1, validate_every: 1, threads: 1}\n",
        encoding="utf-8",
    )
    limits.write_text("rois: {Brainstem: {dsc: {each_at_least: 1.0}}}\n", encoding="utf-8")
    out = tmp_path / "report"
    kept = consumer.train_and_check(tmp_path / "archive", tmp_path / "run", config, limits, out)
    assert kept is False, "one step teaches nothing"
    assert (tmp_path / "run" / "bundle" / "model.yaml").is_file()
    assert "each_at_least: 1.0" in (out / "commissioning.html").read_text(encoding="utf-8")
