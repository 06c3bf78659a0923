"""Copies with added ROIs: every byte that was there is there, in any encoding, and nothing else is claimed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from synthetic import axial, write_stack

from contour_ai.dicom.byte_elements import items, open_bytes
from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.copied import NUMBER_OF
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_into import add_to_copy
from contour_ai.dicom.rtstruct_read import load_structure_set, read_structures
from contour_ai.dicom.rtstruct_write import RoiContours, contours_of_mask, write_structures
from contour_ai.dicom.tags import (
    ROI_CONTOUR_SEQUENCE,
    RT_ROI_OBSERVATIONS_SEQUENCE,
    STRUCTURE_SET_ROI_SEQUENCE,
)
from contour_ai.errors import InputError, OutputError, VerificationError
from contour_ai.structures import roi_info
from contour_ai.volume import Structures

PROVENANCE = Provenance(label="test")


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("ct")
    write_stack(folder, axial(6))
    return read_ct(folder, with_pixels=False)


def mask(ct: CTSeries, seed: int, ks: slice = slice(1, 4)) -> NDArray[np.bool_]:
    result = np.zeros(ct.grid.shape_kij, dtype=bool)
    part = result[ks]
    part[:] = np.random.default_rng(seed).random(part.shape) > 0.4
    return result


@pytest.fixture
def existing(ct: CTSeries, tmp_path: Path) -> Path:
    """A structure set of another system: private elements, odd order of ROIs, an approval."""
    path = tmp_path / "RS.dcm"
    masks = {"Heart": mask(ct, 1), "Cord": mask(ct, 2), "PTV": mask(ct, 3)}
    write_structures(path, Structures.from_masks(masks, ct.grid), ct, PROVENANCE)
    return path


def edited(
    path: Path, edit: Callable[[Dataset], None], syntax: str | None = None, undefined: bool = False
) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    for element in dataset:
        if undefined and element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=implicit, enforce_file_format=True)
    return path


def with_oddities(dataset: Dataset) -> None:
    dataset.add_new(0x00290010, "LO", "OTHER SYSTEM")
    dataset.add_new(0x00291001, "OB", b"\x01\x02\x03\x04")
    for n, roi in enumerate(dataset.StructureSetROISequence):
        roi.add_new(0x32850010, "LO", "MAKER")
        roi.add_new(0x32851000, "DS", f"{n}.50")
    contours = list(dataset.ROIContourSequence)
    dataset.ROIContourSequence = Sequence(contours[::-1])
    dataset.StructureSetROISequence[1].ROINumber = 17
    for sequence in (dataset.ROIContourSequence, dataset.RTROIObservationsSequence):
        for item in sequence:
            if item.ReferencedROINumber == 2:
                item.ReferencedROINumber = 17


def add(
    source: Path, out: Path, ct: CTSeries, masks: dict[str, NDArray[np.bool_]], **options: object
) -> object:
    rois = [contours_of_mask(roi_info(name), m) for name, m in masks.items()]
    return add_to_copy(source, out, rois, ct, PROVENANCE, expected=masks, **options)  # type: ignore[arg-type]


def element_bytes(path: Path) -> dict[int, bytes]:
    file = open_bytes(path)
    return {tag: file.data[s.start : s.end] for tag, s in file.elements.items()}


def item_bytes(path: Path, tag: int) -> list[bytes]:
    file = open_bytes(path)
    return [file.data[i.start : i.end] for i in items(file.data, file.elements[tag], explicit=file.explicit)]


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=["implicit", "explicit"]
)
def test_everything_that_was_there_stays_byte_for_byte(
    ct: CTSeries, existing: Path, tmp_path: Path, syntax: str, undefined: bool
) -> None:
    edited(existing, with_oddities, syntax, undefined)
    before, out = existing.read_bytes(), tmp_path / "out.dcm"
    new = {"SpinalCord_PRV05": mask(ct, 4), "Lung_L": mask(ct, 5)}
    add(existing, out, ct, new)
    assert existing.read_bytes() == before
    old, made = element_bytes(existing), element_bytes(out)
    changed = {tag for tag in old if old[tag] != made[tag]}
    assert changed == {0x00080018, 0x0020000E, *NUMBER_OF}
    assert list(old) == list(made)
    for tag in NUMBER_OF:
        assert item_bytes(out, tag)[:3] == item_bytes(existing, tag)
        assert len(item_bytes(out, tag)) == 5
    dataset = pydicom.dcmread(out)
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert [r.ROINumber for r in dataset.StructureSetROISequence] == [1, 17, 3, 18, 19]
    assert [o.ObservationNumber for o in dataset.RTROIObservationsSequence] == [1, 2, 3, 4, 5]
    assert "added by contour-ai" in dataset.StructureSetROISequence[3].ROIDescription
    structures = read_structures(out, ct)
    for name, wanted in {**new, "Heart": mask(ct, 1), "Cord": mask(ct, 2), "PTV": mask(ct, 3)}.items():
        assert np.array_equal(structures.mask(name), wanted), name


def test_an_approved_set_is_copied_unapproved_and_it_is_said(
    ct: CTSeries, existing: Path, tmp_path: Path
) -> None:
    def approve(dataset: Dataset) -> None:
        dataset.ApprovalStatus, dataset.ReviewDate, dataset.ReviewTime = "APPROVED", "20260101", "120000"
        dataset.ReviewerName = "Doctor^A"

    edited(existing, approve)
    copied = add(existing, tmp_path / "out.dcm", ct, {"Lung_L": mask(ct, 5)})
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert "ReviewerName" not in dataset and "ReviewDate" not in dataset
    assert any("RS.dcm is APPROVED; the copy is UNAPPROVED" in n for n in copied.notes)  # type: ignore[attr-defined]
    assert pydicom.dcmread(existing).ApprovalStatus == "APPROVED"


def test_a_roi_of_the_same_name_is_replaced_and_a_stopped_one_left_out(
    ct: CTSeries, existing: Path, tmp_path: Path
) -> None:
    copied = add(existing, tmp_path / "out.dcm", ct, {"cord": mask(ct, 8)}, leave_out=["Heart"])
    assert copied.replaced == ("Cord",) and copied.left_out == ("Heart",)  # type: ignore[attr-defined]
    assert "ROI Cord of RS.dcm is replaced by the new one" in copied.notes  # type: ignore[attr-defined]
    assert "ROI Heart of RS.dcm is left out" in copied.notes  # type: ignore[attr-defined]
    made = load_structure_set(tmp_path / "out.dcm")
    assert made.names == ("PTV", "cord")
    assert np.array_equal(read_structures(made, ct).mask("cord"), mask(ct, 8))
    for tag in (STRUCTURE_SET_ROI_SEQUENCE, ROI_CONTOUR_SEQUENCE, RT_ROI_OBSERVATIONS_SEQUENCE):
        assert item_bytes(tmp_path / "out.dcm", tag)[0] in item_bytes(existing, tag)


def test_a_copy_gets_no_second_external_contour(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    def outline(dataset: Dataset) -> None:
        dataset.RTROIObservationsSequence[0].RTROIInterpretedType = "EXTERNAL"

    edited(existing, outline)  # Heart
    for new, externals, said in (
        ("Body", 1, True),
        ("Heart", 0, False),
    ):  # Heart takes the place of the external one
        copied = add(existing, tmp_path / f"{new}.dcm", ct, {new: mask(ct, 4)})
        observed = pydicom.dcmread(tmp_path / f"{new}.dcm").RTROIObservationsSequence
        assert sum(o.RTROIInterpretedType == "EXTERNAL" for o in observed) == externals
        assert any("Body is written as ORGAN" in n for n in copied.notes) == said  # type: ignore[attr-defined]


def test_a_shortened_name_never_takes_that_of_a_roi_that_stays(
    ct: CTSeries, existing: Path, tmp_path: Path
) -> None:
    def rename(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[0].ROIName = "Glnd_Submand_L03"

    edited(existing, rename)
    new = {"Glnd_Submandibular_L03": mask(ct, 5)}
    copied = add(existing, tmp_path / "out.dcm", ct, new, profile="eclipse")
    names = load_structure_set(tmp_path / "out.dcm").names
    assert names[:3] == ("Glnd_Submand_L03", "Cord", "PTV") and not copied.replaced  # type: ignore[attr-defined]
    assert len(names) == 4 and len(names[3]) <= 16 and names[3] != names[0]


def test_two_rois_of_one_name_are_refused(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    rois = [contours_of_mask(roi_info(name), mask(ct, 5)) for name in ("A", "a")]
    with pytest.raises(InputError, match="Two ROIs have the same name"):
        add_to_copy(existing, tmp_path / "out.dcm", rois, ct, PROVENANCE, expected={"A": mask(ct, 5)})


def test_images_that_only_new_contours_use_are_listed(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    def only_used(dataset: Dataset) -> None:
        frame = dataset.ReferencedFrameOfReferenceSequence[0]
        series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
        series.ContourImageSequence = Sequence(list(series.ContourImageSequence)[1:4])

    edited(existing, only_used)
    add(existing, tmp_path / "out.dcm", ct, {"Lung_L": mask(ct, 5, slice(0, 6))})
    frame = pydicom.dcmread(tmp_path / "out.dcm").ReferencedFrameOfReferenceSequence[0]
    listed = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    uids = [i.ReferencedSOPInstanceUID for i in listed]
    assert uids == [ct.sop_instance_uids[k] for k in (1, 2, 3, 0, 4, 5)]
    assert not [f for f in check_structure_set(tmp_path / "out.dcm", ct) if f.rule == "references"]


def test_an_empty_roi_and_a_file_without_meta_information(
    ct: CTSeries, existing: Path, tmp_path: Path
) -> None:
    file = open_bytes(existing)
    existing.write_bytes(file.data)
    nothing = np.zeros(ct.grid.shape_kij, dtype=bool)
    add_to_copy(
        existing,
        tmp_path / "out.dcm",
        [RoiContours(info=roi_info("Eye_L"), slices={})],
        ct,
        PROVENANCE,
        expected={"Eye_L": nothing},
    )
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert dataset.StructureSetROISequence[-1].ROIName == "Eye_L"
    assert "ContourSequence" not in dataset.ROIContourSequence[-1]


def test_group_lengths_are_counted_anew(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    file = open_bytes(existing)
    length = sum(s.end - s.start for tag, s in file.elements.items() if tag >> 16 == 0x3006)
    at = next(s.start for tag, s in file.elements.items() if tag >> 16 == 0x3006)
    header = b"\x06\x30\x00\x00" + (4).to_bytes(4, "little") + length.to_bytes(4, "little")
    existing.write_bytes(file.before + file.data[:at] + header + file.data[at:])
    add(existing, tmp_path / "out.dcm", ct, {"Lung_L": mask(ct, 5)})
    made = open_bytes(tmp_path / "out.dcm")
    group = made.elements[0x30060000]
    wanted = sum(s.end - s.start for t, s in made.elements.items() if t >> 16 == 0x3006 and t != 0x30060000)
    assert int.from_bytes(made.data[group.value_start : group.value_end], "little") == wanted


def test_names_beyond_ascii_keep_the_character_set_of_the_file(
    ct: CTSeries, existing: Path, tmp_path: Path
) -> None:
    def latin(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.StructureSetROISequence[0].ROIName = "Kühler"

    edited(existing, latin)
    add(existing, tmp_path / "out.dcm", ct, {"KÜHLER": mask(ct, 5), "Drüse": mask(ct, 6)})
    assert load_structure_set(tmp_path / "out.dcm").names == ("Cord", "PTV", "KÜHLER", "Drüse")


def test_the_structure_set_itself_is_never_overwritten(ct: CTSeries, existing: Path) -> None:
    before = existing.read_bytes()
    with pytest.raises(OutputError, match="overwritten by its copy"):
        add(existing, existing, ct, {"Lung_L": mask(ct, 5)}, overwrite=True)
    assert existing.read_bytes() == before


def test_encodings_that_cannot_be_kept_are_refused(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    edited(existing, lambda d: None, DeflatedExplicitVRLittleEndian)
    with pytest.raises(InputError, match="cannot be copied byte for byte") as caught:
        add(existing, tmp_path / "out.dcm", ct, {"Lung_L": mask(ct, 5)})
    assert "dcmconv" in str(caught.value.fix) and not (tmp_path / "out.dcm").exists()


def test_a_set_of_another_patient_is_refused(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    write_stack(folder, axial(6, patient_id="P2", series="other", frame="other", study="other"))
    with pytest.raises(InputError, match="another patient"):
        add(existing, tmp_path / "out.dcm", read_ct(folder, with_pixels=False), {"Lung_L": mask(ct, 5)})


def test_a_set_of_another_frame_of_reference_is_refused(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    write_stack(folder, axial(6, series="other", frame="other"))
    other = read_ct(folder, with_pixels=False)
    with pytest.raises(InputError, match="another frame of reference"):
        add(existing, tmp_path / "out.dcm", other, {"Lung_L": mask(ct, 5)})


@pytest.mark.parametrize("length", [200, 3000])
def test_damaged_files_are_refused(ct: CTSeries, existing: Path, tmp_path: Path, length: int) -> None:
    existing.write_bytes(existing.read_bytes()[:-length])
    with pytest.raises(InputError):
        add(existing, tmp_path / "out.dcm", ct, {"Lung_L": mask(ct, 5)})
    assert not (tmp_path / "out.dcm").exists()


def test_a_copy_that_does_not_read_back_is_not_kept(ct: CTSeries, existing: Path, tmp_path: Path) -> None:
    wrong = mask(ct, 5)
    rois = [contours_of_mask(roi_info("Lung_L"), wrong)]
    with pytest.raises(VerificationError, match="did not pass its own verification"):
        add_to_copy(
            existing,
            tmp_path / "out.dcm",
            rois,
            ct,
            PROVENANCE,
            expected={"Lung_L": np.roll(wrong, 1, axis=2)},
        )
    assert not (tmp_path / "out.dcm").exists()
