"""Several structure sets on a CT, one CT under two names, patients to leave out: who is learnt from."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from test_cases import ROIS, SETTINGS
from tiny_patients import write_patient

from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError
from contour_ai.pipeline._train import check_archive
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.archive_places import load_places
from contour_ai.pipeline.cases import check_cases, prepare_cases
from contour_ai.pipeline.splitting import HeldOut, held_out, same_images, split_patients
from contour_ai.training.config import DataConfig, PreprocessConfig, TrainConfig
from contour_ai.volume import CONTOURED

BOTH = {"Brainstem": (2, 8, 10), "Parotid_L": (5, 8, 15)}
CONFIG = TrainConfig(preprocess=PreprocessConfig(spacing_mm_kij=(6.0, 5.0, 5.0)))


def write_other_set(folder: Path, number: int, names: dict[str, tuple[int, int, int]], label: str) -> None:
    """A second structure set of another program on the CT that lies in a patient's folder, a day newer."""
    other = folder.parent / f"{folder.name} other"
    write_patient(other, number, names)
    for path, name in ((other / "RS.dcm", label), (folder / "RS.dcm", "ORGANS")):
        data_set = pydicom.dcmread(path)
        if data_set.Manufacturer == "contour-ai":
            data_set.Manufacturer = data_set.ManufacturerModelName = "Planner"
            data_set.StructureSetLabel = name
            data_set.StructureSetDate = "20260301" if name == label else "20260201"
            if name == label:
                data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = (
                    pydicom.uid.generate_uid()
                )
            data_set.save_as(path)
    shutil.move(other / "RS.dcm", folder / f"{label}.dcm")
    shutil.rmtree(other)


def other_patient_id(folder: Path, patient_id: str) -> None:
    """The same CT and structure set, under another patient ID and other UIDs."""
    uids: dict[str, str] = {}
    for path in folder.rglob("*.dcm"):
        data_set = pydicom.dcmread(path)
        data_set.PatientID = patient_id
        for element in data_set.iterall():
            if element.VR == "UI" and "Class" not in element.keyword and "Syntax" not in element.keyword:
                element.value = uids.setdefault(element.value, pydicom.uid.generate_uid())
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.save_as(path)


def test_merged_sets_give_the_rois_of_all_of_them(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_patient(archive / "1", 1, BOTH)
    write_other_set(archive / "1", 1, {"Parotid_R": (5, 8, 5), "Brainstem": BOTH["Brainstem"]}, "NODES")
    newest = find_sources(archive)
    assert newest.patients[0].rois.keys() == {"Parotid_R", "Brainstem"}
    assert "ORGANS" in newest.findings[0].reason.split("not taken")[1]
    merged = find_sources(archive, structure_set="merge")
    drawn_in = merged.patients[0].drawn_in
    assert drawn_in.get("Parotid_L", 0) != drawn_in.get("Parotid_R", 0)
    prepared = prepare_cases(merged.patients, ROIS, SETTINGS, tmp_path / "cache")
    (case,) = prepared.cases.values()
    assert case.states == (CONTOURED, CONTOURED, CONTOURED)
    assert case.facts["Parotid_R"].volume_cm3 == pytest.approx(case.facts["Parotid_L"].volume_cm3, rel=0.01)


def test_sets_that_contradict_are_not_merged(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_patient(archive / "1", 1, BOTH)
    write_other_set(archive / "1", 1, {"Brainstem": (3, 8, 10)}, "NODES")
    sources = find_sources(archive, structure_set="merge")
    assert sources.patients[0].rois.keys() == {"Parotid_L"}
    (finding,) = [f for f in sources.findings if f.kind == "ambiguous"]
    assert finding.left_out and finding.roi == "Brainstem"
    assert (
        "is drawn in" in finding.reason and '"NODES"' in finding.reason and "not the same" in finding.reason
    )


def test_several_are_left_out_where_only_one_may_be(tmp_path: Path) -> None:
    write_patient(tmp_path / "1", 1, BOTH)
    write_patient(tmp_path / "2", 2, BOTH)
    write_other_set(tmp_path / "1", 1, {"Parotid_R": (5, 8, 5)}, "NODES")
    sources = find_sources(tmp_path, structure_set="only")
    assert [p.label for p in sources.patients] == ["P2"]
    assert "choose with --structure-set" in sources.left_out["P1"]


def test_one_ct_under_two_ids_is_one_person(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    for number in range(1, 5):
        write_patient(archive / str(number), number, BOTH)
    shutil.copytree(archive / "1", archive / "copy")
    other_patient_id(archive / "copy", "X1")
    sources = find_sources(archive)
    prepared = prepare_cases(sources.patients, ROIS, SETTINGS, tmp_path / "cache")
    same = same_images(prepared.cases)
    assert [sorted(group) for group in same] == [["P1", "X1"]]
    notes = [f for f in check_cases(sources, prepared, same).findings if f.kind == "same image"]
    assert {f.patient for f in notes} == {"P1", "X1"} and not any(f.left_out for f in notes)
    ids = {p.label: p.patient_id for p in sources.patients}
    for part in range(1, 5):
        found = split_patients(ids, HeldOut(fold=(part, 4)), same)
        assert ("P1" in found.training) == ("X1" in found.training)
    with pytest.raises(ConfigError, match="fewer patients than parts"):
        split_patients(ids, HeldOut(fold=(1, 5)), same)
    # A test patient's CT is not learnt from under its other name either.
    kept = split_patients(ids, HeldOut(), same, {"P1": "excluded: test set"})
    assert {"P1", "X1"}.isdisjoint(kept.training + kept.validation)
    assert kept.left_out == {"P1": "excluded: test set", "X1": "the same patient as P1, who is left out"}


def test_patients_join_the_side_of_their_other_images() -> None:
    ids = {"a": "P1", "b": "P2", "c": "P3"}
    alone = split_patients(ids, HeldOut(labels=frozenset(["a"])))
    assert (alone.training, alone.validation) == (["b", "c"], ["a"])
    found = split_patients({**ids, "d": "P4"}, HeldOut(labels=frozenset(["a"])), [("a", "d")])
    assert (found.training, found.validation) == (["b", "c"], ["a", "d"])
    with pytest.raises(ConfigError, match="leave one side empty"):
        split_patients(ids, HeldOut(labels=frozenset(ids)))


def test_a_list_leaves_out_patients_with_reasons(tmp_path: Path) -> None:
    archive, run = tmp_path / "archive", tmp_path / "run"
    for number in range(1, 5):
        write_patient(archive / ("site b" if number > 2 else "site a") / str(number), number, BOTH)
    shutil.copytree(archive / "site a" / "1", archive / "site b" / "copy")
    other_patient_id(archive / "site b" / "copy", "X1")
    listing = tmp_path / "exclude.txt"
    listing.write_text("# test set\nP1: test set\nsite b/3\tmetal, both sides\n", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text("preprocess: {spacing_mm_kij: [6, 5, 5]}\n", encoding="utf-8")
    args = ["train", str(archive), "--out", str(run), "--config", str(config), "--exclude", str(listing)]
    result = CliRunner().invoke(cli, [*args, "--check"])
    assert result.exit_code == 0, result.output
    with (run / "archive-check.csv").open(encoding="utf-8-sig") as file:
        rows = {(row["patient"], row["what"]): row for row in csv.DictReader(file)}
    assert rows["P1", "excluded"]["reason"] == "excluded: test set"
    assert rows["P3", "excluded"]["reason"] == "excluded: metal, both sides"
    assert "P1" in rows["X1", "same image"]["reason"]
    listing.write_text("P9: gone\n", encoding="utf-8")
    result = CliRunner().invoke(cli, [*args, "--check"])
    assert result.exit_code == 4 and "not in this archive" in result.output and "P9" in result.output


def test_lists_of_patients_are_read_in_several_forms(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("P1\nP2; second scan\nsite/c,poor: contrast\n", encoding="utf-8")
    assert load_places(path) == {"P1": "", "P2": "second scan", "site/c": "poor: contrast"}
    path = tmp_path / "list.yaml"
    path.write_text("P1: test set\n12: null\n", encoding="utf-8")
    assert load_places(path) == {"P1": "test set", "12": ""}
    path.write_text("3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="neither a mapping nor a list"):
        load_places(path)
    empty = tmp_path / "empty.txt"
    empty.write_text("# nobody\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is empty"):
        load_places(empty)


def test_validation_by_list_and_by_date(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_patient(tmp_path / "site" / str(number), number, BOTH)
    for path in (tmp_path / "site" / "2" / "ct").iterdir():
        data_set = pydicom.dcmread(path)
        data_set.StudyDate = "20260301"
        for keyword in ("SeriesDate", "AcquisitionDate"):
            if keyword in data_set:
                delattr(data_set, keyword)
        data_set.save_as(path)
    patients = find_sources(tmp_path).patients
    assert held_out(DataConfig(validation_from="2026-02-01"), patients).labels == {"P2"}
    assert held_out(DataConfig(validation_patients=("p3", "site/1")), patients).labels == {"P1", "P3"}
    with pytest.raises(ConfigError, match=r"not in this archive(.|\n)*P7"):
        held_out(DataConfig(validation_patients=("P7",)), patients)
    with pytest.raises(ConfigError, match="one way to choose who validates"):
        DataConfig(fold=(1, 2), validation_from="2026-02-01")
    with pytest.raises(ConfigError, match=r"data\.validation_from"):
        DataConfig(validation_from="1 March")


def test_the_table_says_what_was_taken(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    for number in (1, 2):
        write_patient(archive / str(number), number, BOTH)
    write_other_set(archive / "1", 1, BOTH, "NEWER")
    config = replace(CONFIG, data=DataConfig(structure_set="ORG*"))
    check = check_archive(config, archive, tmp_path / "run")
    (found,) = [f for f in check.findings if f.kind == "structure sets" and f.patient == "P1"]
    assert 'taken: "ORGANS"' in found.reason and '"NEWER"' in found.reason.split("not taken")[1]
    assert not found.left_out


def test_the_plan_is_printed_before_the_first_step(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_patient(tmp_path / "a" / str(number), number, {"Brainstem": (2, 8, 10)})
    config = tmp_path / "config.yaml"
    config.write_text(
        "network: {base_filters: 4}\ninput: {patch_kij: [8, 16, 16], batch_size: 1}\nrun: {steps: 3}\n",
        encoding="utf-8",
    )
    args = ["train", str(tmp_path / "a"), "--out", str(tmp_path / "run"), "--config", str(config)]
    result = CliRunner().invoke(cli, [*args, "--time-budget", "8s"])
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stderr.splitlines() if line.strip().startswith("steps  "))
    assert "epochs of 2 patients; ends at " in line and line.split()[1] == "about"
