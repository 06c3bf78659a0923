"""Several acquisitions in one CT series: refused where they overlap, one scan where they follow each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset
from synthetic import Stack, axial, box_contours, hu_at, uid, write_stack, write_structure_set

from contour_ai.anonymisation.patients import AnonymiseOptions, anonymise_patients
from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import GeometryError, InputError
from contour_ai.pipeline._evaluate import evaluate
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.cases import PreparedCases, prepare_cases
from contour_ai.preprocess import PreprocessSettings

SLICES, SPACING_MM = 6, 3.0

Mark = Callable[[int, int, Dataset], None]
"""Marks slice k of pass n."""


def write_passes(folder: Path, offset_mm: float, mark: Mark, passes: int = 2) -> None:
    """Several passes of one series, each `offset_mm` above the one before."""
    for n in range(passes):
        positions = axial(SLICES, SPACING_MM).positions_lps + np.array([0, 0, n * offset_mm])

        def edit(k: int, d: Dataset, n: int = n) -> None:
            d.SOPInstanceUID = uid("pass", n, k)
            d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
            d.InstanceNumber = n * SLICES + k + 1
            d.PixelData = (np.frombuffer(d.PixelData, np.uint16) + n).tobytes()
            mark(n, k, d)

        write_stack(folder, Stack(positions), edit, stem=f"pass{n}-")


def by_number(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionNumber = n + 1


def by_time(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionTime = f"10{30 * n:02d}00"


def by_temporal_position(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionNumber = 1
    d.TemporalPositionIdentifier = n + 1


def by_rotation(n: int, k: int, d: Dataset) -> None:
    """As scanners write it: two slices a rotation, each rotation with its own number and time."""
    rotation = n * SLICES // 2 + k // 2
    d.AcquisitionNumber = 7
    d.AcquisitionTime = f"1000{rotation:02d}.5"


def by_slice_time(n: int, k: int, d: Dataset) -> None:
    d.AcquisitionTime = f"1000{n * SLICES + k:02d}.125"


MARKS = (by_number, by_time, by_temporal_position, by_rotation, by_slice_time)


@pytest.mark.parametrize("offset_mm", [0.0, 1.0, 1.5, 10.5, 12.0])
@pytest.mark.parametrize("mark", MARKS)
def test_acquisitions_that_overlap_are_refused_and_each_can_be_chosen(
    tmp_path: Path, offset_mm: float, mark: Mark
) -> None:
    write_passes(tmp_path, offset_mm, mark)
    with pytest.raises(GeometryError, match="2 acquisitions lie in this CT series") as caught:
        read_ct(tmp_path)
    assert f"6 slices, {-50 + offset_mm:g} to {-35 + offset_mm:g} mm" in str(caught.value)
    assert "choose one with --acquisition N" in str(caught.value)
    for number in (1, 2):
        assert f"--acquisition {number}: " in str(caught.value)
        ct = read_ct(tmp_path, acquisition=number)
        assert ct.volume is not None
        stack = axial(SLICES, SPACING_MM)
        below = np.array([0, 0, (number - 1) * offset_mm])
        assert np.allclose(ct.grid.positions_lps, stack.positions_lps + below)
        expected = [hu_at(stack.points_lps(k) + below) + number - 1 for k in range(SLICES)]
        assert np.array_equal(ct.volume.hu, expected)
        (note,) = (text for text in ct.notes if "was chosen" in text)
        assert note.startswith(f"acquisition {number} of 2 was chosen") and "6 slices of the others" in note
    with pytest.raises(InputError, match="There is no such acquisition"):
        read_ct(tmp_path, acquisition=3)


@pytest.mark.parametrize("mark", MARKS)
def test_acquisitions_that_follow_each_other_are_one_scan(tmp_path: Path, mark: Mark) -> None:
    write_passes(tmp_path, SLICES * SPACING_MM, mark)
    ct = read_ct(tmp_path)
    assert ct.grid.shape_kij[0] == 2 * SLICES and ct.notes == ()


def test_one_of_two_acquisitions_that_follow_each_other_can_be_chosen(tmp_path: Path) -> None:
    write_passes(tmp_path, SLICES * SPACING_MM, lambda n, k, d: setattr(d, "AcquisitionNumber", 3 + 4 * n))
    assert read_ct(tmp_path, acquisition=7).grid.shape_kij[0] == SLICES
    with pytest.raises(InputError, match="There is no such acquisition") as caught:
        read_ct(tmp_path, acquisition=1)
    assert "--acquisition 3: AcquisitionNumber 3, 6 slices" in str(caught.value)


@pytest.mark.parametrize("times", ["own", "rotation", "random", "missing"])
def test_an_ordinary_scan_is_one_acquisition_whatever_its_times(tmp_path: Path, times: str) -> None:
    order = np.random.default_rng(0).permutation(24)

    def edit(k: int, d: Dataset) -> None:
        d.AcquisitionNumber = k // 4 if times == "rotation" else 1
        seconds = {"own": k, "rotation": k // 4, "random": int(order[k]), "missing": 0}[times]
        d.AcquisitionTime = "" if times == "missing" else f"1000{seconds:02d}"

    write_stack(tmp_path, axial(24, 2.5), edit)
    assert read_ct(tmp_path).grid.shape_kij[0] == 24


def test_commands_take_an_acquisition(tmp_path: Path) -> None:
    write_passes(tmp_path, 1.5, by_number)
    above = Stack(axial(SLICES, SPACING_MM).positions_lps + np.array([0, 0, 1.5]))
    path = write_structure_set(tmp_path / "rs.dcm", above, {"Bladder": box_contours(above, [1, 2])})
    out = tmp_path / "out.npz"
    refused = CliRunner().invoke(cli, ["to-masks", str(tmp_path), "--out", str(out)])
    assert refused.exit_code == 3 and not out.exists()
    taken = CliRunner().invoke(cli, ["to-masks", str(tmp_path), "--out", str(out), "--acquisition", "2"])
    assert taken.exit_code == 0, taken.output
    with np.load(out) as masks:
        assert np.flatnonzero(masks["Bladder"].any(axis=(1, 2))).tolist() == [1, 2]
    back = ["to-rtstruct", str(tmp_path), str(out), "--out", str(tmp_path / "new.dcm"), "--acquisition", "2"]
    assert CliRunner().invoke(cli, back).exit_code == 0
    for command in ("check", "to-seg", "predict", "review", "evaluate", "commission", "train"):
        assert "--acquisition N" in CliRunner().invoke(cli, [command, "--help"]).output
    assert path.exists()


def way_back(n: int, k: int, d: Dataset) -> None:
    """Every second pass is scanned while the table goes back."""
    d.InstanceNumber = n * SLICES + (SLICES - k if n % 2 else k + 1)


@pytest.mark.parametrize("offset_mm", [0.7, 1.5, 2.0, 7.5])
@pytest.mark.parametrize("mark", [lambda n, k, d: None, way_back])
def test_passes_that_only_their_numbers_tell_apart_are_refused(
    tmp_path: Path, offset_mm: float, mark: Mark
) -> None:
    write_passes(tmp_path, offset_mm, mark)
    with pytest.raises(GeometryError, match="2 acquisitions lie in this CT series") as caught:
        read_ct(tmp_path)
    assert "--acquisition 2: InstanceNumber " in str(caught.value)
    for number in (1, 2):
        ct = read_ct(tmp_path, acquisition=number)
        low = -50 + (number - 1) * offset_mm
        assert ct.grid.positions_lps[:, 2] == pytest.approx(low + SPACING_MM * np.arange(SLICES))


def test_three_passes_that_only_their_numbers_tell_apart_are_refused(tmp_path: Path) -> None:
    write_passes(tmp_path, 1.0, lambda n, k, d: None, passes=3)
    with pytest.raises(GeometryError, match="3 acquisitions lie in this CT series"):
        read_ct(tmp_path)


def renumbered(n: int, k: int, d: Dataset) -> None:
    """By position, as an archive does that numbers anew."""
    d.InstanceNumber = 2 * k + n + 1


@pytest.mark.parametrize("way", ["time", "uid", "both", "neither"])
def test_passes_that_only_one_order_hints_at_are_read_with_a_note(tmp_path: Path, way: str) -> None:
    def mark(n: int, k: int, d: Dataset) -> None:
        renumbered(n, k, d)
        if way in ("time", "both"):
            d.ContentDate, d.ContentTime = "20260102", f"1000{n * SLICES + k:02d}.250000"
        if way in ("uid", "both"):
            d.SOPInstanceUID = f"1.2.3.20260102.{100 + n * SLICES + k}"
            d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID

    write_passes(tmp_path, 1.5, mark)
    if way == "both":
        with pytest.raises(GeometryError, match="in the order of ContentTime, pass 1, 6 slices"):
            read_ct(tmp_path)
        return
    ct = read_ct(tmp_path)
    name = {"time": "ContentTime", "uid": "SOPInstanceUID", "neither": ""}[way]
    expected = (
        "the slices may be 2 passes half-way between each other, read as one CT: by "
        f"{name} they were made in 2 runs through the patient"
    )
    assert ct.grid.shape_kij[0] == 2 * SLICES and list(ct.notes) == ([expected] if name else [])


@pytest.mark.parametrize(
    "number",
    {
        "up": lambda k, order: k + 1,
        "down": lambda k, order: 24 - k,
        "from another number": lambda k, order: 301 + k,
        "all the same": lambda k, order: 1,
        "in pairs": lambda k, order: k // 2 + 1,
        "missing": lambda k, order: None,
        "some missing": lambda k, order: k + 1 if k % 3 else None,
        "anew, in the order of arrival": lambda k, order: int(order[k]) + 1,
        "as names sort": lambda k, order: sorted(map(str, range(24))).index(str(k)) + 1,
        "two exports one behind the other": lambda k, order: (k + 12) % 24 + 1,
        "two exports, each downwards": lambda k, order: 12 * (k // 12) + 12 - k % 12,
    }.values(),
)
def test_an_ordinary_scan_is_one_acquisition_whatever_its_numbers(
    tmp_path: Path, number: Callable[[int, np.ndarray], int | None]
) -> None:
    order = np.random.default_rng(1).permutation(24)
    write_stack(tmp_path, axial(24, 2.5), lambda k, d: setattr(d, "InstanceNumber", number(k, order)))
    ct = read_ct(tmp_path)
    assert ct.grid.shape_kij[0] == 24 and not any("passes" in note for note in ct.notes)


def two_patients(folder: Path) -> None:
    """One patient with two acquisitions that overlap, drawn on the second, and one with an ordinary scan."""
    above = Stack(axial(SLICES, SPACING_MM).positions_lps + np.array([0, 0, 1.5]))
    write_passes(folder / "a", 1.5, by_number)
    write_structure_set(folder / "a" / "rs.dcm", above, {"Bladder": box_contours(above, [1, 2])})
    other = Stack(axial(SLICES, SPACING_MM).positions_lps, patient_id="P2", series="series B")
    write_stack(folder / "b", other, lambda k, d: setattr(d, "AcquisitionNumber", 5))
    write_structure_set(folder / "b" / "rs.dcm", other, {"Bladder": box_contours(other, [2, 3])})


def test_evaluate_takes_an_acquisition_where_several_overlap_and_other_series_as_they_are(
    tmp_path: Path,
) -> None:
    two_patients(tmp_path / "in")
    for name in "ab":
        copy = pydicom.dcmread(tmp_path / "in" / name / "rs.dcm")
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = uid("predicted", name)
        (tmp_path / "predicted" / name).mkdir(parents=True)
        copy.save_as(tmp_path / "predicted" / name / "rs.dcm")
    refused = evaluate(tmp_path / "predicted", tmp_path / "in")
    assert [row.patient for row in refused.rows] == ["P2"]
    ((patient, error),) = refused.failed.items()
    assert patient == "P1" and "--acquisition 2: AcquisitionNumber 2" in str(error)
    taken = evaluate(tmp_path / "predicted", tmp_path / "in", acquisition=2)
    assert not taken.failed
    assert {row.patient: row.metrics.dsc for row in taken.rows} == {"P1": 1.0, "P2": 1.0}
    assert [n for n in taken.notes if "was chosen" in n] == [
        "P1: CT: acquisition 2 of 2 was chosen (AcquisitionNumber 2, 6 slices); 6 slices of the others are not used"
    ]


def test_training_leaves_overlapping_acquisitions_out_with_the_way_out_or_takes_one(tmp_path: Path) -> None:
    two_patients(tmp_path / "in")
    settings = PreprocessSettings(spacing_mm_kij=(3.0, 2.0, 2.0), windows_hu=((-160.0, 240.0),))

    def prepared(acquisition: int | None) -> PreparedCases:
        sources = find_sources(tmp_path / "in", min_patients=1, acquisition=acquisition)
        assert len(sources.patients) == 2
        return prepare_cases(sources.patients, ("Bladder",), settings, tmp_path / "cache")

    refused = prepared(None)
    assert list(refused.cases) == ["P2"]
    assert "2 acquisitions lie in this CT series" in refused.left_out["P1"]
    assert "choose one with --acquisition N" in refused.left_out["P1"]
    taken = prepared(2)
    assert sorted(taken.cases) == ["P1", "P2"] and not taken.left_out
    (key, case), (other_key, other) = taken.prepared["P1"], prepared(1).prepared["P1"]
    assert key != other_key, "the cache must tell the acquisitions apart"
    assert case.notes[0].startswith("acquisition 2 of 2 was chosen") and "acquisition 1" in other.notes[0]
    assert taken.cases["P2"].notes == ()
    assert not np.array_equal(case.hu, other.hu)


def test_anonymise_compares_voxels_on_every_acquisition(tmp_path: Path) -> None:
    two_patients(tmp_path / "in")
    options = AnonymiseOptions(key_path=tmp_path / "key.json")
    done = anonymise_patients([tmp_path / "in" / "a"], tmp_path / "out", options)
    (copy,) = done.copies
    assert copy.rois_compared == 1 and not any("not compared" in note for note in copy.notes)
