"""Finding series and structure sets, and pairing them by UID, with the refusals and their messages."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RTDoseStorage,
    RTPlanStorage,
    SecondaryCaptureImageStorage,
)
from synthetic import (
    Stack,
    axial,
    box_contours,
    link_folder,
    structure_set,
    uid,
    write_other,
    write_stack,
    write_structure_set,
)

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.scan import (
    Archive,
    PatientFiles,
    ct_to_check_against,
    find_patient,
    find_patients,
    pair,
    scan,
)
from contour_ai.errors import InputError

A = axial()
B = axial(7, series="series B", study="study 1", frame="frame 1")


def rois(stack: Stack) -> dict[str, list]:
    return {"Bladder": box_contours(stack, [1, 2]), "parotis li": box_contours(stack, [3])}


def saved(path: Path, data_set: FileDataset, edit: Callable[[FileDataset], object]) -> Path:
    edit(data_set)
    data_set.save_as(path, enforce_file_format=True)
    return path


def labels(patient: PatientFiles) -> list[str]:
    return [s.label for s in patient.structure_sets]


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    write_stack(tmp_path / "store" / "a", A)
    write_structure_set(tmp_path / "store" / "rs", A, rois(A), label="PLAN1")
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    link_folder(cohort / "linked", tmp_path / "store")
    link_folder(cohort / "again", tmp_path / "store")
    link_folder(tmp_path / "store" / "round", cohort)
    archive = scan(cohort)
    assert [ct.slices for ct in archive.ct_series] == [5] and len(archive.structure_sets) == 1
    assert not archive.others and not archive.skipped
    assert all(path.is_relative_to(cohort) for path in archive.ct_series[0].paths)


def test_scan_sorts_what_it_finds(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct" / "deep", A)
    write_structure_set(tmp_path / "elsewhere" / "rs", A, rois(A), label="PLAN1")
    write_other(tmp_path / "dose", "RTDOSE", RTDoseStorage, A)
    write_other(tmp_path / "plan", "RTPLAN", RTPlanStorage, A)
    write_other(tmp_path / "picture", "CT", SecondaryCaptureImageStorage, A)

    def scout(k: int, d: Dataset) -> None:
        d.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_stack(tmp_path / "scout", axial(1, series="scout"), scout)
    write_other(tmp_path / "DICOMDIR", "", MediaStorageDirectoryStorage, A)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "notes.txt").write_text("not DICOM, but long enough to look at " * 10)
    (tmp_path / "short.txt").write_text("no")

    archive = scan(tmp_path)
    (ct,) = archive.ct_series
    assert (ct.series_instance_uid, ct.slices, ct.patient_id) == (uid("series A"), 5, "P1")
    assert len(ct.paths) == len(ct.sop_instance_uids) == 5
    (found,) = archive.structure_sets
    assert (found.label, found.created) == ("PLAN1", "20260102 030405")
    assert found.roi_names == ("Bladder", "parotis li")
    assert found.referenced_series_uids == (uid("series A"),)
    assert len(found.referenced_sop_uids) == 5
    assert found.frame_of_reference_uids == (uid("frame 1"),)
    assert sorted(o.kind for o in archive.others) == [
        "CT localizer (scout)",
        "DICOMDIR",
        "RT Dose",
        "RT Plan",
        "Secondary Capture Image",
    ]
    reasons = {s.path.name: (s.reason, s.is_dicom) for s in archive.skipped}
    assert reasons == {
        "empty.dcm": ("This file is empty (0 bytes).", True),
        "notes.txt": ("This is no DICOM file.", False),
        "short.txt": ("This is no DICOM file.", False),
    }
    assert str(archive) == (
        "1 CT series, 1 RTSTRUCT, 1 CT localizer (scout), 1 DICOMDIR, 1 RT Dose, 1 RT Plan, "
        "1 Secondary Capture Image, 1 unreadable DICOM file(s), 2 other file(s)"
    )


def test_series_of_two_patients_with_one_uid_stay_apart(tmp_path: Path) -> None:
    write_stack(tmp_path / "1", A)
    write_stack(tmp_path / "2", axial(patient_id="P2"))
    assert [s.patient_id for s in scan(tmp_path).ct_series] == ["P1", "P2"]


def test_empty_sop_class_and_instance_uids(tmp_path: Path) -> None:
    def anonymous(k: int, d: Dataset) -> None:
        d.SOPClassUID = d.SOPInstanceUID = ""

    write_stack(tmp_path, A, anonymous)
    (ct,) = scan(tmp_path).ct_series
    assert ct.sop_instance_uids == ("",) * 5


# -- pairing ---------------------------------------------------------------------------------------------------


def no_list_of_images(d: FileDataset) -> None:
    del d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence


def no_references(d: FileDataset) -> None:
    del d.ReferencedFrameOfReferenceSequence, d.FrameOfReferenceUID
    for roi in d.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID


def images_of_contours_only(d: FileDataset) -> None:
    no_references(d)
    d.StudyInstanceUID = uid("another study")
    image = Dataset()
    image.ReferencedSOPInstanceUID = uid("series A", "slice", 1)
    d.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image]


def series_renamed(d: FileDataset) -> None:
    series = (
        d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    )
    series.SeriesInstanceUID = "1.2.3.4"


def anonymous(d: FileDataset) -> None:
    d.PatientID = ""


@pytest.mark.parametrize(
    "edit",
    [lambda d: None, no_list_of_images, no_references, images_of_contours_only, series_renamed, anonymous],
)
def test_pairs_by_series_then_images_then_frame_then_study(
    tmp_path: Path, edit: Callable[[FileDataset], object]
) -> None:
    other = axial(6, series="series C", study="study 2", frame="frame 2", patient_id="P3")
    write_stack(tmp_path / "x", A)
    write_stack(tmp_path / "y", other)
    saved(tmp_path / "y" / "rs.dcm", structure_set(A, rois(A), label="mine"), edit)
    patients = {p.ct.patient_id: p for p in pair(scan(tmp_path))}
    assert labels(patients["P1"]) == ["mine"]
    assert labels(patients["P3"]) == []


def test_equal_frame_of_reference_does_not_choose_between_two_series(tmp_path: Path) -> None:
    write_stack(tmp_path / "x", A)
    write_stack(tmp_path / "y", B)
    saved(tmp_path / "rs.dcm", structure_set(A, rois(A)), no_list_of_images)
    assert [labels(p) for p in pair(scan(tmp_path))] == [[], []]


def test_structure_set_of_a_series_that_is_not_here_is_not_paired(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    write_structure_set(tmp_path / "rs.dcm", B, rois(A))
    with pytest.raises(InputError, match="No structure set belongs to this CT series") as caught:
        find_patient(tmp_path, needs_rtstruct=True)
    text = str(caught.value)
    assert (
        f"was drawn on CT series {uid('series B')}, not on {uid('series A')} (the same frame of reference)"
        in text
    )
    assert "--rtstruct FILE" in text
    patient = find_patient(tmp_path)
    assert patient.structure_sets == ()
    (problem,) = patient.problems
    assert problem.startswith("not used: ")
    assert f"was drawn on CT series {uid('series B')}" in problem


# -- one patient -----------------------------------------------------------------------------------------------


def test_finds_the_one_patient(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", A)
    write_structure_set(tmp_path / "rs.dcm", A, rois(A))
    patient = find_patient(tmp_path, needs_rtstruct=True)
    assert patient.ct.slices == 5
    assert labels(patient) == ["RS"]


@pytest.mark.parametrize("content", ["nothing", "text", "other", "rtstruct", "empty file"])
def test_no_ct(tmp_path: Path, content: str) -> None:
    found = {
        "nothing": "0 CT series, 0 RTSTRUCT",
        "text": "1 other file(s)",
        "other": "1 RT Dose",
        "rtstruct": "1 RTSTRUCT",
        "empty file": "empty (0 bytes)",
    }[content]
    if content == "text":
        (tmp_path / "a.txt").write_text("hello")
    elif content == "other":
        write_other(tmp_path / "dose", "RTDOSE", RTDoseStorage, A)
    elif content == "rtstruct":
        write_structure_set(tmp_path / "rs.dcm", A, rois(A))
    elif content == "empty file":
        (tmp_path / "a.dcm").touch()
    for finder in (find_patient, find_patients):
        with pytest.raises(InputError, match="There is no CT series here") as caught:
            finder(tmp_path)
        assert found in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert "contour-ai inspect" in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or folder"):
        find_patient(tmp_path / "none")


def test_two_series_are_refused_by_name_until_one_is_chosen(tmp_path: Path) -> None:
    write_stack(tmp_path / "x", A)
    write_stack(tmp_path / "y", B)
    with pytest.raises(InputError, match="There are 2 CT series here; which one is meant") as caught:
        find_patient(tmp_path)
    text = str(caught.value)
    assert f'{uid("series A")}: 5 slices, "series A", patient P1' in text
    assert f'{uid("series B")}: 7 slices, "series B", patient P1' in text
    assert "--series UID" in text
    assert find_patient(tmp_path, series_uid=uid("series B")).ct.slices == 7
    with pytest.raises(InputError, match="no CT series with this UID"):
        find_patient(tmp_path, series_uid="1.2")


def test_a_structure_set_is_checked_against_the_series_that_it_refers_to(tmp_path: Path) -> None:
    write_stack(tmp_path / "x", A)
    path = write_structure_set(tmp_path / "rs.dcm", A, rois(A))
    elsewhere = write_structure_set(tmp_path / "of-b.dcm", B, {"Bladder": box_contours(B, [1, 2])})

    def check(structure_set: Path, *options: str) -> Result:
        return CliRunner().invoke(cli, ["check", str(structure_set), "--ct", str(tmp_path), *options])

    assert "known to be refused" in check(elsewhere).output, "against the only series, whose it is not"
    write_stack(tmp_path / "y", B)
    for one, series in ((path, "A"), (elsewhere, "B")):
        found = check(one)
        assert (found.exit_code, "0 known to be refused" in found.output) == (0, True), found.output
        assert found.output == check(one, "--series", uid(f"series {series}")).output
    assert ct_to_check_against(tmp_path, elsewhere).slices == 7
    write_stack(tmp_path / "y", axial(series="series C", study="study 3", frame="frame 3"))
    third = write_structure_set(tmp_path / "none.dcm", axial(series="D", study="s 4", frame="f 4"), rois(A))
    assert "which one is meant" in check(third).output


def test_series_of_two_patients_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "x", A)
    write_stack(tmp_path / "y", axial(series="series C", patient_id="P2"))
    with pytest.raises(InputError, match="2 CT series here, of 2 patients"):
        find_patient(tmp_path)


def test_structure_set_asked_for_chooses_its_series(tmp_path: Path) -> None:
    write_stack(tmp_path / "x", A)
    write_stack(tmp_path / "y", B)
    path = write_structure_set(tmp_path / "elsewhere" / "rs.dcm", B, rois(B))
    patient = find_patient(tmp_path, rtstruct=path)
    assert patient.ct.slices == 7
    assert labels(patient) == ["RS"]


def test_several_structure_sets(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    write_structure_set(tmp_path / "one.dcm", A, rois(A), label="one")
    two = write_structure_set(tmp_path / "two.dcm", A, rois(A), label="two")
    with pytest.raises(InputError, match="Several structure sets belong to this CT series") as caught:
        find_patient(tmp_path, needs_rtstruct=True)
    assert f'{two}: "two", 20260102 030405, 2 ROIs' in str(caught.value)
    assert "--rtstruct FILE" in str(caught.value)
    assert labels(find_patient(tmp_path, rtstruct=two, needs_rtstruct=True)) == ["two"]
    patient = find_patient(tmp_path)
    assert patient.structure_sets == ()
    assert patient.problems[0].startswith("2 structure sets belong to this CT; none was used")


def test_copy_of_a_structure_set_counts_once(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    path = write_structure_set(tmp_path / "rs.dcm", A, rois(A))
    (tmp_path / "rs copy.dcm").write_bytes(path.read_bytes())
    assert labels(find_patient(tmp_path, needs_rtstruct=True)) == ["RS"]
    assert [o.kind for o in scan(tmp_path).others] == ["copy of a structure set"]


def test_no_structure_set(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    with pytest.raises(InputError, match="No structure set belongs to this CT series") as caught:
        find_patient(tmp_path, needs_rtstruct=True)
    assert "found: 1 CT series, 0 RTSTRUCT" in str(caught.value)
    assert find_patient(tmp_path).structure_sets == ()


def test_structure_set_of_another_patient_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    path = write_structure_set(tmp_path / "rs.dcm", axial(patient_id="P9"), rois(A))
    with pytest.raises(InputError, match="No structure set belongs") as caught:
        find_patient(tmp_path, needs_rtstruct=True)
    assert f"{path} is of patient P9, the CT of patient P1" in str(caught.value)
    with pytest.raises(InputError, match="Files of different patients lie here") as caught:
        find_patient(tmp_path)
    assert f"{path} is of patient P9, the CT of patient P1" in str(caught.value)
    assert "take away what does not belong to this patient" in str(caught.value)
    assert "--rtstruct FILE" in str(caught.value)


def test_structure_set_of_another_patient_id_is_used_where_it_is_asked_for_and_everything_else_agrees(
    tmp_path: Path,
) -> None:
    write_stack(tmp_path, A)
    path = write_structure_set(tmp_path / "rs.dcm", axial(patient_id="P9"), rois(A))
    patient = find_patient(tmp_path, rtstruct=path, needs_rtstruct=True)
    assert patient.structure_sets[0].path == path
    assert patient.problems == (
        f"{path} is of patient P9, the CT of patient P1; used because it was asked for",
    )


@pytest.mark.parametrize("other", [{"series": "C"}, {"frame": "frame 2"}])
def test_structure_set_of_another_patient_and_another_scan_is_refused(
    tmp_path: Path, other: dict[str, str]
) -> None:
    write_stack(tmp_path, A)
    path = write_structure_set(tmp_path / "rs.dcm", axial(patient_id="P9", **other), rois(A))
    with pytest.raises(InputError, match="This structure set does not belong to this CT series") as caught:
        find_patient(tmp_path, rtstruct=path)
    assert "is of patient P9" in str(caught.value)
    with pytest.raises(InputError, match="Files of different patients lie here") as caught:
        find_patient(tmp_path)
    assert "--rtstruct" not in str(caught.value)


def test_files_that_look_like_dicom_and_are_not_used_are_named(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, A)
    paths[-1].write_bytes(b"")
    (tmp_path / "CT900").write_bytes(bytes(range(255, 0, -1)) * 9)
    (tmp_path / "CT901.dcm").write_bytes(b"\0" * 4000)
    (tmp_path / "CT902.dcm.gz").write_bytes(gzip.compress(paths[0].read_bytes()))
    (tmp_path / "README").write_text("a text of no interest")
    (tmp_path / ".DS_Store").write_bytes(b"\1\2\3" * 99)
    write_other(tmp_path / "dose.dcm", "RTDOSE", RTDoseStorage, A)
    damaged, others = find_patient(tmp_path).problems
    assert damaged.startswith("4 file(s) that look like DICOM cannot be read and are not used")
    for name in (paths[-1].name, "CT900", "CT901.dcm", "CT902.dcm.gz: This is a gzipped DICOM file"):
        assert name in damaged
    assert others == "not used: 1 RT Dose"
    (one,) = find_patients(tmp_path)
    assert one.problems == (damaged,)


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path / "a", A)
    (tmp_path / "b").mkdir()
    real = os.scandir

    def closed(path: str) -> object:
        if Path(path) == tmp_path / "b":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", closed)
    (skipped,) = scan(tmp_path).damaged
    assert str(skipped) == f"{tmp_path / 'b'}: This folder cannot be opened (Permission denied)."
    assert "b: This folder cannot be opened" in find_patient(tmp_path).problems[0]


def test_a_slice_whose_class_was_damaged_is_named(tmp_path: Path) -> None:
    def spoil(k: int, d: Dataset) -> None:
        if k == 4:
            d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9999"

    write_stack(tmp_path, A, spoil)
    (note,) = find_patient(tmp_path).problems
    assert note.startswith("1 file(s) of this series are no CT slices and are not used")


def test_images_that_the_structure_set_refers_to_and_that_are_not_here_are_noted(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, A)
    write_structure_set(tmp_path / "rs.dcm", A, rois(A))
    paths[-1].unlink()
    (note,) = find_patient(tmp_path).problems
    assert note == "1 of the 5 images that rs.dcm refers to are not here; slices of the CT may be missing"
    assert pair(scan(tmp_path))[0].problems == (note,)


def test_other_series_are_looked_through_only_for_images_that_are_missing(tmp_path: Path) -> None:
    for n in (1, 2):
        stack = axial(series=f"series {n}", study=f"study {n}", frame=f"frame {n}", patient_id=f"P{n}")
        paths = write_stack(tmp_path / f"{n}", stack)
        write_structure_set(tmp_path / f"{n}" / "rs.dcm", stack, rois(stack))
    looked_through = []

    class Recorded(tuple[str, ...]):
        def __iter__(self) -> Iterator[str]:
            looked_through.append(self)
            return super().__iter__()

    def recorded(archive: Archive) -> Archive:
        siblings = tuple(
            replace(ct, sop_instance_uids=Recorded(ct.sop_instance_uids)) for ct in archive.ct_series
        )
        return replace(archive, ct_series=tuple(replace(ct, siblings=siblings) for ct in archive.ct_series))

    assert [p.problems for p in pair(recorded(scan(tmp_path)))] == [(), ()]
    assert not looked_through
    paths[-1].rename(tmp_path / "1" / "moved.dcm")  # joined by its UIDs, wherever it lies
    assert [p.problems for p in pair(recorded(scan(tmp_path)))] == [(), ()]
    (tmp_path / "1" / "moved.dcm").unlink()
    first, second = pair(recorded(scan(tmp_path)))
    assert not first.problems and second.problems[0].startswith("1 of the 5 images")
    assert looked_through


def test_an_image_that_lies_in_another_series_is_not_missing(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, A)
    write_structure_set(tmp_path / "rs.dcm", A, rois(A))
    moved = dcmread(paths[-1])
    moved.SeriesInstanceUID, moved.ConvolutionKernel = uid("another"), "B70f"
    moved.save_as(paths[-1])
    assert [p.problems for p in pair(scan(tmp_path))] == [(), ()]


# -- UIDs that change from slice to slice ------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"])
def test_slices_that_agree_in_all_but_one_uid_are_one_scan(tmp_path: Path, keyword: str) -> None:
    write_stack(tmp_path, A, lambda k, d: setattr(d, keyword, uid("changing", k)))
    (files,) = scan(tmp_path).ct_series
    assert (files.slices, len(files.paths), len(set(files.sop_instance_uids))) == (5, 5, 5)
    ct = read_ct(tmp_path)
    assert ct.grid.shape_kij[0] == 5
    assert ct.notes == (
        f"{keyword} changes from slice to slice; the 5 slices agree in everything else, are one evenly spaced stack "
        "and are read as one scan",
    )


def test_series_are_not_joined_where_a_position_or_the_kernel_differs_or_they_have_several_slices(
    tmp_path: Path,
) -> None:
    def own_series(k: int, d: Dataset) -> None:
        d.SeriesInstanceUID = uid("changing", k)

    def other_kernel(k: int, d: Dataset) -> None:
        own_series(k, d)
        d.ConvolutionKernel = "B30f" if k else "B70f"

    def twice(k: int, d: Dataset) -> None:
        own_series(k, d)
        d.ImagePositionPatient = A.positions_lps[k - k % 2].tolist()

    def patient(k: int, d: Dataset) -> None:
        own_series(k, d)
        d.PatientID = f"P{k % 2}"

    for n, edit in enumerate((other_kernel, twice, patient)):
        write_stack(tmp_path / str(n), A, edit)
        assert len(scan(tmp_path / str(n)).ct_series) > 1
    write_stack(tmp_path / "two", A)
    above = A.positions_lps + np.array([0, 0, 15.0])
    write_stack(tmp_path / "two", Stack(above, series="series B"), stem="B")
    assert [ct.slices for ct in scan(tmp_path / "two").ct_series] == [5, 5]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "PatientID"])
@pytest.mark.parametrize("few", [True, False])
def test_what_some_slices_of_a_series_lack_is_that_of_the_others(
    tmp_path: Path, keyword: str, few: bool
) -> None:
    def edit(k: int, d: Dataset) -> None:
        if (k == 0) == few:
            delattr(d, keyword)

    paths = write_stack(tmp_path, A, edit)
    paths[3].unlink()  # a lost slice does not make two scans of it
    (files,) = scan(tmp_path).ct_series
    ct = read_ct(files)
    missing = 1 if few else 3
    assert ct.grid.shape_kij[0] == 4
    assert (
        f"{keyword} is missing in {missing} of the 4 slices; they agree in SeriesInstanceUID" in ct.notes[0]
    )
    assert (files.patient_id, files.study_instance_uid) == ("P1", uid("study 1"))
    assert ct.series_instance_uids == ()
    assert (ct.patient_id, ct.header.StudyInstanceUID) == (
        "P1",
        uid("study 1"),
    )  # of slice 0, which may lack it


@pytest.mark.parametrize("first", [True, False])
def test_slices_without_series_uid_belong_to_the_only_series_if_all_are_one_stack(
    tmp_path: Path, first: bool
) -> None:
    def edit(k: int, d: Dataset) -> None:
        if k == (0 if first else 2):
            del d.SeriesInstanceUID

    paths = write_stack(tmp_path, A, edit)
    (files,) = scan(tmp_path).ct_series
    ct = read_ct(files)
    assert files.series_instance_uid == ct.series_instance_uid == uid("series A")
    assert ct.notes == (
        "SeriesInstanceUID is missing in 1 of the 5 slices; they are one evenly spaced stack and are read as one scan",
    )
    assert ct.series_instance_uids == ()
    paths[1].unlink()  # now they are no even stack
    assert len(scan(tmp_path).ct_series) == 2


def test_a_changing_series_uid_is_joined_where_some_slices_lack_the_frame(tmp_path: Path) -> None:
    def edit(k: int, d: Dataset) -> None:
        d.SeriesInstanceUID = uid("changing", k)
        if k % 2:
            del d.FrameOfReferenceUID

    write_stack(tmp_path, A, edit)
    assert read_ct(tmp_path).grid.shape_kij[0] == 5


def test_one_series_uid_for_two_patients_is_refused_with_a_way_out(tmp_path: Path) -> None:
    write_stack(tmp_path, A, lambda k, d: setattr(d, "PatientID", f"P{k % 2}"))
    for choice in (None, uid("series A")):
        with pytest.raises(InputError, match=r"have 2 patient IDs \(P0, P1\)") as caught:
            find_patient(tmp_path, series_uid=choice)
        assert "--series" not in str(caught.value)
        assert "export it again with one PatientID" in str(caught.value)


# -- what is no CT -----------------------------------------------------------------------------------------------


def test_what_lies_there_instead_of_a_ct_is_named(tmp_path: Path) -> None:
    stored = write_stack(tmp_path / "ct", A)
    shutil.make_archive(str(tmp_path / "zip" / "p"), "zip", tmp_path / "ct")
    shutil.make_archive(str(tmp_path / "tar" / "p"), "tar", tmp_path / "ct")
    shutil.make_archive(str(tmp_path / "tgz" / "p"), "gztar", tmp_path / "ct")
    (tmp_path / "gz").mkdir()
    for path in stored:
        (tmp_path / "gz" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "nifti").mkdir()
    (tmp_path / "nifti" / "ct.nii").write_bytes(b"\x5c\1\0\0" + b"\0" * 340 + b"n+1\0" + b"\0" * 99)
    (tmp_path / "nifti" / "ct.nii.gz").write_bytes(
        gzip.compress((tmp_path / "nifti" / "ct.nii").read_bytes())
    )
    for folder, kind in (("sc", SecondaryCaptureImageStorage), ("mr", MRImageStorage)):
        (tmp_path / folder).mkdir()
        write_other(tmp_path / folder / "1.dcm", "CT", kind, A)
    expected = {
        "zip": ("1 zip archive", "p.zip is a zip archive: unpack it into a folder of its own"),
        "tar": ("1 tar archive", "p.tar is a tar archive: unpack it"),
        "tgz": ("1 gzipped tar archive", "is a gzipped tar archive: unpack it"),
        "gz": ("5 gzipped DICOM files", "unpack them (gunzip *.gz)"),
        "nifti": ("2 NIfTI files", "reads CTs as DICOM only"),
        "sc": ("1 Secondary Capture Image", "export the original CT slices"),
        "mr": ("1 MR Image", "give the planning CT"),
    }
    for folder, (found, fix) in expected.items():
        with pytest.raises(InputError, match="There is no CT series here") as caught:
            find_patient(tmp_path / folder)
        assert caught.value.found is not None and found in caught.value.found
        assert caught.value.fix is not None and fix in caught.value.fix


def test_structure_set_of_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    path = write_structure_set(tmp_path / "rs.dcm", axial(series="C", frame="frame 2"), rois(A))
    with pytest.raises(InputError, match="does not belong") as caught:
        find_patient(tmp_path, rtstruct=path)
    assert "another frame of reference" in str(caught.value)


def test_structure_set_of_another_series_in_the_same_frame_is_used_when_asked_for(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    path = write_structure_set(tmp_path / "rs.dcm", B, rois(A))
    patient = find_patient(tmp_path, rtstruct=path, needs_rtstruct=True)
    assert labels(patient) == ["RS"]
    assert "used because it was asked for" in patient.problems[0]


def test_what_is_no_structure_set_is_refused(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, A)
    with pytest.raises(InputError, match="This is not one RTSTRUCT file") as caught:
        find_patient(tmp_path, rtstruct=paths[0])
    assert "found: 1 CT series, 0 RTSTRUCT" in str(caught.value)


# -- archives --------------------------------------------------------------------------------------------------


def test_archive_of_patients(tmp_path: Path) -> None:
    for n in (2, 1, 3):
        stack = axial(series=f"series {n}", study=f"study {n}", frame=f"frame {n}", patient_id=f"P{n}")
        write_stack(tmp_path / f"{n}", stack)
        if n != 3:
            write_structure_set(tmp_path / f"{n}" / "rs.dcm", stack, rois(stack))
        if n == 2:
            write_structure_set(tmp_path / f"{n}" / "rs2.dcm", stack, rois(stack), label="again")
            lost = axial(series="lost", study="study 2", frame="frame 9", patient_id="P2")
            write_structure_set(tmp_path / f"{n}" / "rs3.dcm", lost, rois(lost))
    patients = find_patients(tmp_path)
    assert [(p.ct.patient_id, len(p.structure_sets)) for p in patients] == [("P1", 1), ("P2", 2), ("P3", 0)]
    assert patients[0].problems == ()
    several, unmatched = patients[1].problems
    assert several.startswith("2 structure sets belong to this CT series: ")
    assert f"was drawn on CT series {uid('lost')}" in unmatched


def test_a_damaged_file_is_noted_with_the_patient_beside_whom_it_lies(tmp_path: Path) -> None:
    for n in (1, 2):
        stack = axial(series=f"series {n}", study=f"study {n}", frame=f"frame {n}", patient_id=f"P{n}")
        write_stack(tmp_path / f"{n}", stack)
    (tmp_path / "2" / "x.dcm").touch()
    first, second = find_patients(tmp_path)
    assert first.problems == ()
    assert len(second.problems) == 1 and "x.dcm" in second.problems[0]


def test_damaged_files_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_stack(tmp_path, A)
    for n in range(12):
        (tmp_path / f"x{n:02d}.dcm").touch()
    scan(tmp_path)
    assert len(caplog.messages) == 11
    assert caplog.messages[0] == f"left out {tmp_path / 'x00.dcm'}: This file is empty (0 bytes)."
    assert caplog.messages[-1] == "left out 2 more DICOM files that cannot be read"


def test_progress(tmp_path: Path) -> None:
    write_stack(tmp_path, A)
    events = []
    scan(tmp_path, events.append)
    assert [(e.stage, e.done, e.total) for e in events] == [("looking for DICOM", 5, 5)]


def test_a_structure_set_that_lists_an_mr_first_belongs_to_its_ct(tmp_path: Path) -> None:
    stack = axial(4)
    write_stack(tmp_path / "ct", stack)
    data_set = structure_set(stack, {"A": box_contours(stack, [1])})
    (of_the_ct,) = data_set.ReferencedFrameOfReferenceSequence
    del of_the_ct.RTReferencedStudySequence
    of_the_mr = Dataset()
    of_the_mr.FrameOfReferenceUID = uid("frame of an MR")
    data_set.ReferencedFrameOfReferenceSequence = [of_the_mr, of_the_ct]
    for contour in data_set.ROIContourSequence[0].ContourSequence:
        if "ContourImageSequence" in contour:
            del contour.ContourImageSequence
    data_set.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    assert len(find_patient(tmp_path, needs_rtstruct=True).structure_sets) == 1
    alone = find_patient(tmp_path / "ct", rtstruct=tmp_path / "rs.dcm")
    assert [s.path.name for s in alone.structure_sets] == ["rs.dcm"] and not alone.problems


def test_slices_of_which_several_uids_change_are_not_said_to_be_chosen_one_by_one(tmp_path: Path) -> None:
    def edit(k: int, d: FileDataset) -> None:
        d.SeriesInstanceUID, d.StudyInstanceUID = uid("series", k), uid("study", k)

    write_stack(tmp_path, axial(4), edit)
    with pytest.raises(InputError, match=r"(?s)4 CT series here.*export it again with one StudyInstanceUID"):
        find_patient(tmp_path)
