"""`contour-ai anonymise`: everything still belongs together, every number is as it was, and nobody is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as DicomSequence
from synthetic import axial, box_contours, compress, structure_set, write_other, write_stack

from contour_ai.anonymisation import patients, proof
from contour_ai.anonymisation.options import Keep
from contour_ai.anonymisation.patients import AnonymiseOptions, anonymise_patients
from contour_ai.cli.anonymise import command
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.scan import find_patient
from contour_ai.errors import InputError, OutputError, VerificationError

STACK = axial(4, patient_id="MRN-4711-22")
SECRETS = (
    b"mustermann",
    b"erika",
    b"mrn-4711-22",
    b"hospital zum beispiel",
    b"house",
    b"19570313",
    b"ward 7",
)


def identify(data_set: Dataset) -> None:
    """Puts a person into every corner of a data set."""
    data_set.SpecificCharacterSet = "ISO_IR 100"
    data_set.PatientName, data_set.PatientBirthDate = "Mustermann^Erika^Jürgen", "19570313"
    data_set.PatientSex, data_set.PatientAge, data_set.PatientWeight = "F", "069Y", "61.5"
    data_set.InstitutionName = "Hospital zum Beispiel"
    data_set.ReferringPhysicianName = data_set.OperatorsName = "House^Gregory"
    data_set.StudyDescription, data_set.PatientComments = "Mustermann follow-up", "lives in ward 7"
    data_set.AccessionNumber, data_set.DeviceSerialNumber = "ACC-99887766", "SN-5566778899"
    data_set.StudyDate, data_set.StudyTime, data_set.AcquisitionDateTime = (
        "20260102",
        "1015",
        "20260102101530.5",
    )
    data_set.ContentDate, data_set.ContentTime = "2026-99-99", "noon"
    request = Dataset()
    request.RequestedProcedureDescription = "CT for Erika Mustermann"
    data_set.RequestAttributesSequence = DicomSequence([request])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-A0100", "SRT", "Brain"
    code.add_new(0x00081160, "IS", "1")
    data_set.AnatomicRegionSequence = DicomSequence([code])
    private = data_set.private_block(0x0029, "ACME 1.0", create=True)
    private.add_new(1, "LO", "Mustermann private")
    data_set.add_new(0x60003000, "OW", b"Mustermann")


def patient_folder(folder: Path, *, roi: str = "PTV Mustermann", syntax: str = "") -> Path:
    paths = write_stack(folder / "Mustermann_CT", STACK, lambda k, d: identify(d))
    if syntax:
        for path in paths:
            compress(path, syntax)
    rois = {roi: box_contours(STACK, [1, 2]), "SpinalCord": box_contours(STACK, [0, 1, 2, 3], 3.0)}
    contours = structure_set(STACK, rois)
    identify(contours)
    contours.StructureSetName = "Plan of Erika"
    contours.RTROIObservationsSequence[0].ROIInterpreter = "House^Gregory"
    contours.ROIContourSequence[0].ContourSequence[0].ContourData[0] = "-4.0000001"
    contours.save_as(folder / "RS_Mustermann.dcm", enforce_file_format=True)
    return folder


def anonymise(folder: Path, tmp_path: Path, **options: object) -> list[patients.AnonymisedPatient]:
    given = AnonymiseOptions(key_path=tmp_path / "key.json", **options)  # type: ignore[arg-type]
    return list(anonymise_patients([folder], tmp_path / "out", given).copies)


def files(folder: Path) -> list[FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


@pytest.mark.parametrize("syntax", ["", "JPEGLosslessProcess14_1"])
def test_no_file_names_the_person_and_all_belongs_together(tmp_path: Path, syntax: str) -> None:
    source = patient_folder(tmp_path / "in", syntax=syntax)
    (copy,) = anonymise(source, tmp_path)
    assert (copy.ct_files, copy.structure_sets, copy.rois_compared) == (4, 1, 2)
    for path in copy.folder.rglob("*"):
        assert b"mustermann" not in str(path.relative_to(tmp_path / "out")).lower().encode()
        if path.is_file():
            content = path.read_bytes().lower()
            assert [word for word in SECRETS if word in content] == []
    for data_set in files(copy.folder):
        assert data_set.PatientID == str(data_set.PatientName) == copy.folder.name
        assert data_set.PatientIdentityRemoved == "YES"
        assert data_set.PatientBirthDate == data_set.PatientSex == data_set.AccessionNumber == ""
        assert not [e for e in data_set if e.tag.is_private or 0x6000 <= e.tag.group < 0x7000]
        assert "RequestAttributesSequence" not in data_set and data_set.ContentDate == ""
        assert data_set.AnatomicRegionSequence[0].CodeMeaning == "Brain"
    found, before = find_patient(copy.folder), find_patient(source)
    assert len(found.structure_sets) == 1
    hu, hu_before = (read_ct(f.ct).volume for f in (found, before))
    assert hu is not None and hu_before is not None and np.array_equal(hu.hu, hu_before.hu)
    assert found.structure_sets[0].roi_names == ("PTV X", "SpinalCord")


def test_dates_move_by_the_same_days_in_all_files_and_times_stay(tmp_path: Path) -> None:
    (copy,) = anonymise(patient_folder(tmp_path / "in"), tmp_path)
    shift = json.loads((tmp_path / "key.json").read_text(encoding="utf-8"))["patients"]["MRN-4711-22"][
        "shift_days"
    ]
    assert -730 <= shift <= -62
    expected = (np.datetime64("2026-01-02") + shift).astype(str).replace("-", "")
    for data_set in files(copy.folder):
        assert (data_set.StudyDate, data_set.StudyTime) == (expected, "1015")
        assert data_set.AcquisitionDateTime == f"{expected}101530.5"
    (contours,) = [d for d in files(copy.folder) if d.Modality == "RTSTRUCT"]
    assert (contours.StructureSetDate, contours.StructureSetTime) == (expected, "030405")
    assert contours.LongitudinalTemporalInformationModified == "MODIFIED"


def test_the_same_key_gives_the_same_copy_and_another_key_another(tmp_path: Path) -> None:
    source = patient_folder(tmp_path / "in")
    (first,) = anonymise(source, tmp_path)
    before = {p.name: p.read_bytes() for p in first.folder.rglob("*.dcm")}
    (again,) = anonymise(source, tmp_path, overwrite=True)
    assert {p.name: p.read_bytes() for p in again.folder.rglob("*.dcm")} == before
    with pytest.raises(OutputError, match="exists already"):
        anonymise(source, tmp_path)
    (tmp_path / "key.json").unlink()
    (other,) = anonymise(source, tmp_path)
    assert other.folder.name != first.folder.name


def test_options_keep_what_they_say_and_no_more(tmp_path: Path) -> None:
    keep = frozenset({Keep.PATIENT, Keep.DESCRIPTIONS, Keep.DATES})
    (copy,) = anonymise(patient_folder(tmp_path / "in"), tmp_path, keep=keep)
    for data_set in files(copy.folder):
        assert (data_set.PatientSex, data_set.PatientAge, str(data_set.PatientWeight)) == (
            "F",
            "069Y",
            "61.5",
        )
        assert data_set.StudyDescription == "X follow-up" and data_set.StudyDate == "20260102"
        assert "DeviceSerialNumber" not in data_set and "PatientComments" not in data_set
        codes = [item.CodeValue for item in data_set.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113105", "113106", "113108"]


def test_numbers_of_contours_stay_byte_for_byte_even_where_they_are_odd(tmp_path: Path) -> None:
    source = patient_folder(tmp_path / "in")
    (copy,) = anonymise(source, tmp_path)

    def raw(folder: Path) -> list[bytes]:
        (path,) = folder.rglob("RS*.dcm")
        rois = pydicom.dcmread(path).ROIContourSequence
        return [c.get_item("ContourData").value for r in rois for c in r.ContourSequence]

    assert raw(copy.folder) == raw(source) and b"-4.0000001" in raw(source)[0]


def test_roi_numbers_under_a_wrong_type_of_value_are_kept(tmp_path: Path) -> None:
    source = patient_folder(tmp_path / "in")
    contours = pydicom.dcmread(source / "RS_Mustermann.dcm")
    number = DataElement(0x30060022, "LT", str(contours.StructureSetROISequence[0].ROINumber))
    contours.StructureSetROISequence[0][0x30060022] = number
    contours.save_as(source / "RS_Mustermann.dcm")
    (copy,) = anonymise(source, tmp_path)
    assert copy.rois_compared == 2
    (path,) = copy.folder.rglob("RS*.dcm")
    assert pydicom.dcmread(path).StructureSetROISequence[0].get_item(0x30060022).VR == "LT"


def test_a_roi_that_would_be_lost_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = patient_folder(tmp_path / "in")
    kept = patients.Cleaner.clean

    def careless(self: patients.Cleaner, data_set: Dataset) -> None:
        kept(self, data_set)
        if "StructureSetROISequence" in data_set:
            del data_set.StructureSetROISequence[1]

    monkeypatch.setattr(patients.Cleaner, "clean", careless)
    with pytest.raises(VerificationError, match=r"cannot be read in the copy.*\n(.*\n)*.*1 of 2 ROIs"):
        anonymise(source, tmp_path)
    assert not list((tmp_path / "out").glob("ANON*"))


def test_an_anatomical_name_stays_although_a_person_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"

    def lung(data_set: Dataset) -> None:
        data_set.PatientName = "Lung^Li"

    write_stack(folder / "ct", STACK, lambda k, d: lung(d))
    contours = structure_set(
        STACK, {"Lung_L": box_contours(STACK, [1]), "Li Lung 2": box_contours(STACK, [1])}
    )
    lung(contours)
    contours.save_as(folder / "rs.dcm", enforce_file_format=True)
    (copy,) = anonymise(folder, tmp_path)
    assert find_patient(copy.folder).structure_sets[0].roi_names == ("Lung_L", "X X 2")
    assert any("anatomical ROI name" in note for note in copy.notes)


def test_names_in_other_scripts_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "in"

    def japanese(data_set: Dataset) -> None:
        data_set.SpecificCharacterSet = "ISO_IR 192"
        data_set.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"

    write_stack(folder / "ct", STACK, lambda k, d: japanese(d))
    contours = structure_set(STACK, {"山田 腫瘍": box_contours(STACK, [1])})
    japanese(contours)
    contours.save_as(folder / "rs.dcm", enforce_file_format=True)
    (copy,) = anonymise(folder, tmp_path)
    assert find_patient(copy.folder).structure_sets[0].roi_names == ("X 腫瘍",)


def test_burned_in_text_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", STACK, lambda k, d: setattr(d, "BurnedInAnnotation", "YES"))
    with pytest.raises(InputError, match="burned into its pixels"):
        anonymise(tmp_path / "in", tmp_path)
    assert list((tmp_path / "out").rglob("*.dcm")) == []


def test_one_patient_that_cannot_be_copied_does_not_end_the_run(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        stack = axial(4, patient_id=f"MRN-{number}", series=f"series {number}", study=f"study {number}")
        paths = write_stack(tmp_path / "in" / str(number) / "ct", stack)
        if number == 2:
            burned = pydicom.dcmread(paths[1])
            burned.BurnedInAnnotation = "YES"
            burned.save_as(paths[1])
    done = CliRunner().invoke(
        command, [str(tmp_path / "in"), "--out", str(tmp_path / "out")], standalone_mode=False
    )
    assert done.return_value == 3
    assert "error in patient MRN-2: This image has text burned into its pixels" in done.output
    assert "1 of 3 patients not copied" in done.output
    assert len([p for p in (tmp_path / "out").iterdir() if p.is_dir()]) == 2


def test_a_file_without_its_class_or_with_a_type_of_value_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = patient_folder(tmp_path / "in")
    structure_set_file = next(p for p in folder.rglob("*.dcm") if pydicom.dcmread(p).Modality == "RTSTRUCT")
    data = structure_set_file.read_bytes()
    at = data.index(b"\x06\x30\xa4\x00")  # RTROIInterpretedType
    structure_set_file.write_bytes(data[: at + 4] + b"N " + data[at + 6 :])
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        anonymise(tmp_path / "in", tmp_path)
    assert list((tmp_path / "out").rglob("*.dcm")) == []


def test_what_is_not_understood_is_not_copied_and_named(tmp_path: Path) -> None:
    folder = patient_folder(tmp_path / "in")
    write_other(folder / "dose.dcm", "RTDOSE", "1.2.840.10008.5.1.4.1.1.481.2", STACK)
    options = AnonymiseOptions(key_path=tmp_path / "key.json")
    done = anonymise_patients([folder], tmp_path / "out", options)
    assert len(done.copies) == 1 and len(done.not_copied) == 1 and "RT Dose" in done.not_copied[0]


def test_one_of_several_structure_sets_is_copied_and_the_other_named(tmp_path: Path) -> None:
    folder = patient_folder(tmp_path / "in")
    later = structure_set(STACK, {"Brainstem": box_contours(STACK, [1, 2])})
    identify(later)
    later.StructureSetDate = "20991231"
    later.save_as(folder / "later.dcm", enforce_file_format=True)
    done = CliRunner().invoke(
        command,
        [str(folder), "--out", str(tmp_path / "out"), "--structure-set", "newest"],
        standalone_mode=False,
    )
    assert done.return_value == 0, done.output
    (copy,) = (tmp_path / "out").glob("ANON*")
    assert [s.roi_names for s in find_patient(copy).structure_sets] == [("Brainstem",)]
    assert "RS_Mustermann.dcm" in done.output and "not copied" in done.output
    (both,) = anonymise(folder, tmp_path / "all")
    assert both.structure_sets == 2


def test_a_word_that_slips_through_is_found_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = patient_folder(tmp_path / "in")
    kept = patients.Cleaner.clean

    def careless(self: patients.Cleaner, data_set: Dataset) -> None:
        kept(self, data_set)
        data_set.StudyDescription = "for Erika"

    monkeypatch.setattr(patients.Cleaner, "clean", careless)
    with pytest.raises(VerificationError, match="still holds a word"):
        anonymise(source, tmp_path)
    assert not list((tmp_path / "out").glob("ANON*"))


def test_a_moved_contour_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = patient_folder(tmp_path / "in")
    kept = patients.Cleaner.clean

    def careless(self: patients.Cleaner, data_set: Dataset) -> None:
        kept(self, data_set)
        if "ROIContourSequence" in data_set:
            data_set.ROIContourSequence[1].ContourSequence[0].ContourData[0] = "0"

    monkeypatch.setattr(patients.Cleaner, "clean", careless)
    with pytest.raises(VerificationError, match="not equal to its original"):
        anonymise(source, tmp_path)
    monkeypatch.setattr(proof, "_contour_bytes", lambda data_set: iter(()))
    with pytest.raises(VerificationError, match="other voxels"):
        anonymise(source, tmp_path)


def test_the_key_is_kept_apart(tmp_path: Path) -> None:
    options = AnonymiseOptions(key_path=tmp_path / "out" / "key.json")
    with pytest.raises(OutputError, match="must not lie with the copies"):
        anonymise_patients([patient_folder(tmp_path / "in")], tmp_path / "out", options)
    (tmp_path / "bad.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="key file cannot be used"):
        anonymise_patients(
            [tmp_path / "in"], tmp_path / "out", AnonymiseOptions(key_path=tmp_path / "bad.json")
        )
