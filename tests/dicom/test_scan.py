"""Finding series and structure sets, and pairing them by UID, with the refusals and their messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    MediaStorageDirectoryStorage,
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

from contour_ai.dicom.scan import PatientFiles, find_patient, find_patients, pair, scan
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
    assert found.frame_of_reference_uid == uid("frame 1")
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
    with pytest.raises(InputError, match="This structure set does not belong to this CT series") as caught:
        find_patient(tmp_path, rtstruct=path)
    assert "is of patient P9" in str(caught.value)
    with pytest.raises(InputError, match="Files of different patients lie here") as caught:
        find_patient(tmp_path)
    assert f"{path} is of patient P9, the CT of patient P1" in str(caught.value)
    assert "take away what does not belong to this patient" in str(caught.value)


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
