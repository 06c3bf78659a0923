"""Masks to a structure set and back, on every geometry; the header that importers want."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapes import hard_shapes
from synthetic import Stack, axial, tilted, uid, write_enhanced, write_stack

from contour_ai import __version__
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.profile import Profile
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set, read_structures
from contour_ai.dicom.rtstruct_write import (
    RoiContours,
    contours_of_level,
    contours_of_mask,
    write_structure_set,
    write_structures,
)
from contour_ai.dicom.scan import find_patient
from contour_ai.errors import GeometryError, InputError, OutputError, VerificationError
from contour_ai.grid import Grid
from contour_ai.structures import RoiInfo, roi_info
from contour_ai.volume import Structures

HERE = Provenance(label="Test")
LARGE = (30, 26)
ANGLE = np.radians(15)
C, S = float(np.cos(ANGLE)), float(np.sin(ANGLE))


def heights(*values: float) -> np.ndarray:
    return np.array([[-20.03, -30.01, z] for z in values])


GEOMETRIES: dict[str, Stack] = {
    "head first supine": axial(10, shape_ij=LARGE),
    "not square": axial(10, shape_ij=LARGE, spacing_ij_mm=(0.8, 1.2)),
    "small voxels": axial(10, spacing_mm=0.6, shape_ij=LARGE, spacing_ij_mm=(0.1953, 0.1953)),
    "head first prone": tilted((-1, 0, 0), (0, -1, 0), 10, shape_ij=LARGE),
    "feet first supine": tilted((-1, 0, 0), (0, 1, 0), 10, shape_ij=LARGE),
    "feet first prone": tilted((1, 0, 0), (0, -1, 0), 10, shape_ij=LARGE),
    "decubitus": tilted((0, 1, 0), (-1, 0, 0), 10, shape_ij=LARGE),
    "coronal": tilted((1, 0, 0), (0, 0, -1), 10, shape_ij=LARGE),
    "sagittal": tilted((0, 1, 0), (0, 0, -1), 10, shape_ij=LARGE),
    "oblique": tilted((C, S, 0), (-S * C, C * C, S), 10, shape_ij=LARGE),
    "gantry tilt": replace(
        axial(10, shape_ij=LARGE, row=(1.0, 0.0, 0.0), column=(0.0, C, S)),
        positions_lps=heights(*(-50 + 3.0 * k for k in range(10))),
    ),
    "not uniform": replace(
        axial(10, shape_ij=LARGE), positions_lps=heights(0, 1.5, 3, 4.6, 8, 12, 16.25, 21.25, 26, 27.1)
    ),
}


def ct_of(folder: Path, stack: Stack) -> CTSeries:
    write_stack(folder, stack)
    return read_ct(folder, with_pixels=False)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    return ct_of(tmp_path_factory.mktemp("ct"), GEOMETRIES["head first supine"])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_no_voxel_changes_on_any_geometry(geometry: str, tmp_path: Path) -> None:
    ct = ct_of(tmp_path / "ct", GEOMETRIES[geometry])
    masks = hard_shapes(ct.grid.shape_kij)
    structures = Structures.from_masks(masks, ct.grid)
    written = write_structures(tmp_path / "rs.dcm", structures, ct, HERE)
    notes: list[str] = []
    back = read_structures(written.path, ct, on_note=notes.append)
    assert back.names == structures.names
    assert all(back.presence)
    for name in masks:
        assert int((back.mask(name) != masks[name]).sum()) == 0, name
    assert notes == []
    for contour in (c for roi in load_structure_set(written.path).rois for c in roi.contours):
        index = ct.grid.lps_to_index(contour.points_lps)[:, 1:]
        assert index.min() >= -0.5 - 1e-6
        assert (index.max(axis=0) <= np.array(LARGE) - 0.5 + 1e-6).all()
    streamed = dict(iter_masks(written.path, ct, ["Noise", "Annulus"]))
    assert list(streamed) == ["Noise", "Annulus"]
    assert np.array_equal(streamed["Noise"], masks["Noise"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mask=hnp.arrays(np.bool_, (5, 12, 10)),
    outline=st.sampled_from([0.4, 0.5, 0.7]),
    holes=st.sampled_from(["keyhole", "separate"]),
)
def test_no_mask_changes(
    mask: np.ndarray, outline: float, holes: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("hypothesis")
    ct = ct_of(folder / "ct", axial())
    structures = Structures.from_masks({"A": mask}, ct.grid)
    write_structures(folder / "rs.dcm", structures, ct, HERE, outline=outline, holes=holes)  # type: ignore[arg-type]
    ((_, back),) = iter_masks(folder / "rs.dcm", ct)
    assert np.array_equal(back, mask)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    level=hnp.arrays(np.float32, (4, 9, 8), elements=st.floats(-100, 100, width=32)),
    geometry=st.sampled_from(["not square", "small voxels", "oblique", "gantry tilt"]),
)
def test_no_level_field_changes_side_at_a_voxel_centre(
    level: np.ndarray, geometry: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("hypothesis")
    ct = ct_of(folder / "ct", GEOMETRIES[geometry])
    box = (slice(3, 7), slice(0, 9), slice(18, 26))
    roi = contours_of_level(roi_info("A"), level, box)
    write_structure_set(folder / "rs.dcm", [roi], ct, HERE, verify={"A": (box, level > 0)})


def test_a_contour_lies_where_it_was_worked_out_by_hand(ct: CTSeries, tmp_path: Path) -> None:
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[4, 7, 11] = True
    write_structure_set(tmp_path / "rs.dcm", [contours_of_mask(roi_info("A"), mask)], ct, HERE)
    (contour,) = load_structure_set(tmp_path / "rs.dcm").rois[0].contours
    # x = -20 + 2 j, y = -30 + 2 i, z = -50 + 3 k, and half a voxel of 2 mm around
    middle = np.array([2.0, -16.0, -38.0])
    expected = {tuple(middle + d) for d in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))}
    assert {tuple(p) for p in contour.points_lps} == expected
    assert contour.image_uid == ct.sop_instance_uids[4]


def test_level_fields_in_a_box_agree_with_their_voxels(ct: CTSeries, tmp_path: Path) -> None:
    k, i, j = np.ogrid[:5, :14, :13]
    level = (5.2 - np.sqrt((2 * (k - 2.0)) ** 2 + (i - 6.3) ** 2 + (j - 6.1) ** 2)).astype(np.float32)
    box = (slice(2, 7), slice(16, 30), slice(3, 16))
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[box] = level > 0
    roi = contours_of_level(roi_info("Prostate"), level, box)
    write_structure_set(tmp_path / "rs.dcm", [roi], ct, HERE, verify={"Prostate": mask})
    ((_, back),) = iter_masks(tmp_path / "rs.dcm", ct)
    assert np.array_equal(back, mask)
    first = next(iter(roi.slices[4]))
    assert len({tuple(p % 1) for p in first.round(3)}) > 4, "sub-voxel, not a staircase"


def test_a_mask_in_a_box(ct: CTSeries, tmp_path: Path) -> None:
    part = np.ones((3, 4, 5), bool)
    box = (slice(7, 10), slice(26, 30), slice(0, 5))
    roi = contours_of_mask(roi_info("A"), part, box=box)
    write_structure_set(tmp_path / "rs.dcm", [roi], ct, HERE, verify={"A": (box, part)})
    ((_, back),) = iter_masks(tmp_path / "rs.dcm", ct)
    assert back.sum() == 60
    assert back[box].all()


def test_a_multi_frame_ct(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct" / "all.dcm", axial(6, shape_ij=LARGE), [3, 0, 5, 1, 4, 2])
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    structures = Structures.from_masks(hard_shapes((6, *LARGE)), ct.grid)
    written = write_structures(tmp_path / "rs.dcm", structures, ct, HERE)
    back = read_structures(written.path, ct)
    assert np.array_equal(back.bits, structures.bits)
    contour = pydicom.dcmread(written.path).ROIContourSequence[0].ContourSequence[0]
    (image,) = contour.ContourImageSequence
    assert image.ReferencedSOPInstanceUID == ct.sop_instance_uids[0]
    k = round(float(ct.grid.slice_offset_to_k(float(contour.ContourData[2]))))
    assert image.ReferencedFrameNumber == ct.frame_numbers[k]


def test_a_ct_without_uids(tmp_path: Path) -> None:
    def bare(k: int, d: pydicom.Dataset) -> None:
        d.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        d.SOPInstanceUID = ""
        d.FrameOfReferenceUID = ""
        d.StudyDate = "3.1.2026"

    write_stack(tmp_path / "ct", axial(6, shape_ij=LARGE), bare)
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    structures = Structures.from_masks(hard_shapes((6, *LARGE)), ct.grid)
    written = write_structures(tmp_path / "rs.dcm", structures, ct, HERE)
    assert np.array_equal(read_structures(written.path, ct).bits, structures.bits)
    dataset = pydicom.dcmread(written.path)
    assert dataset.FrameOfReferenceUID
    assert dataset.StudyDate == ""
    assert "ContourImageSequence" not in dataset.ROIContourSequence[0].ContourSequence[0]


def test_an_empty_mask_stays_a_roi_without_contours(ct: CTSeries, tmp_path: Path) -> None:
    empty = np.zeros(ct.grid.shape_kij, bool)
    structures = Structures.from_masks({"Lens_L": empty, "Brain": ~empty}, ct.grid)
    written = write_structures(tmp_path / "rs.dcm", structures, ct, HERE)
    notes: list[str] = []
    back = read_structures(written.path, ct, on_note=notes.append)
    assert back.presence == (False, True)
    assert notes == ["rs.dcm: ROI Lens_L has no contours"]


# -- header ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(ct: CTSeries, tmp_path_factory: pytest.TempPathFactory) -> pydicom.Dataset:
    path = tmp_path_factory.mktemp("header") / "rs.dcm"
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[2:5, 5:20, 5:20] = True
    rois = [
        contours_of_mask(roi_info(name), mask, description="checked" if name == "Body" else "")
        for name in ("Body", "Parotid_L", "PTV_7000")
    ]
    provenance = Provenance(
        label="Prostate model needs review",
        series_description="contour-ai: needs review",
        description="Not approved.",
        model="pelvis",
        model_version="1.2",
        weights_sha256="ab" * 32,
    )
    write_structure_set(path, rois, ct, provenance)
    return pydicom.dcmread(path)


def test_identity_is_the_cts_and_the_rest_is_new(written: pydicom.Dataset, ct: CTSeries) -> None:
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyID",
    ):
        assert written[keyword].value == ct.header[keyword].value
    for keyword in (
        "AccessionNumber",
        "ReferringPhysicianName",
        "OperatorsName",
        "PositionReferenceIndicator",
    ):
        assert written[keyword].is_empty
    assert written.FrameOfReferenceUID == ct.header.FrameOfReferenceUID
    assert written.SeriesInstanceUID != ct.header.SeriesInstanceUID
    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert written.Manufacturer == "contour-ai"
    assert "InstitutionName" not in written


def test_references_name_every_slice(written: pydicom.Dataset, ct: CTSeries) -> None:
    (frame,) = written.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == written.FrameOfReferenceUID
    assert series.SeriesInstanceUID == ct.series_instance_uid
    assert [i.ReferencedSOPInstanceUID for i in series.ContourImageSequence] == list(ct.sop_instance_uids)
    for contour in written.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        assert image.ReferencedSOPClassUID == ct.sop_class_uid


def test_references_name_every_series_where_it_changes_from_slice_to_slice(tmp_path: Path) -> None:
    stack = axial(4)
    write_stack(tmp_path / "ct", stack, lambda k, d: setattr(d, "SeriesInstanceUID", uid("changing", k)))
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    masks = Structures.from_masks({"A": np.ones(ct.grid.shape_kij, bool)}, ct.grid)
    written = pydicom.dcmread(write_structures(tmp_path / "rs.dcm", masks, ct, Provenance(label="Test")).path)
    items = (
        written.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
    )
    assert [item.SeriesInstanceUID for item in items] == [uid("changing", k) for k in range(4)]
    found = [[i.ReferencedSOPInstanceUID for i in item.ContourImageSequence] for item in items]
    assert found == [[sop] for sop in ct.sop_instance_uids]
    assert find_patient(tmp_path, needs_rtstruct=True).structure_sets[0].path.name == "rs.dcm"


def test_labels_and_provenance(written: pydicom.Dataset) -> None:
    assert written.StructureSetLabel == "Prostate model n"
    assert written.StructureSetName == "Prostate model needs review"
    assert written.SeriesDescription == "contour-ai: needs review"
    assert written.ApprovalStatus == "UNAPPROVED"
    assert list(written.SoftwareVersions) == [f"contour-ai {__version__}", "ab" * 32, "pelvis 1.2"]
    software = f"contour-ai {__version__}, model pelvis 1.2, weights SHA-256 {'ab' * 32}"
    assert written.StructureSetDescription.replace("\r", "") == f"Not approved.\n{software}"
    assert written.StructureSetROISequence[0].ROIDescription == f"checked; {software}"


@pytest.mark.parametrize("version", ["1.2", "1.20"])
def test_no_text_is_too_long_whatever_the_padding(
    version: str, ct: CTSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values together have an even length: the space that is added must not make a hash too long."""
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[2:5, 5:20, 5:20] = True
    provenance = Provenance(
        label="L" * 80,
        series_description="S" * 80,
        description="D",
        model="pelvis",
        model_version=version,
        weights_sha256="ab" * 32,
    )
    path = tmp_path / "rs.dcm"
    write_structure_set(path, [contours_of_mask(roi_info("Body"), mask)], ct, provenance)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for element in pydicom.dcmread(path).iterall():
        assert element.value is not None or element.is_empty, element.keyword


def test_rois_are_numbered_typed_and_coloured(written: pydicom.Dataset) -> None:
    for sequence, keyword in (
        (written.StructureSetROISequence, "ROINumber"),
        (written.ROIContourSequence, "ReferencedROINumber"),
        (written.RTROIObservationsSequence, "ReferencedROINumber"),
    ):
        assert [int(item[keyword].value) for item in sequence] == [1, 2, 3]
    kinds = [o.RTROIInterpretedType for o in written.RTROIObservationsSequence]
    assert kinds == ["EXTERNAL", "ORGAN", "PTV"]
    assert [tuple(map(int, c.ROIDisplayColor)) for c in written.ROIContourSequence] == [
        roi_info(n).color for n in ("Body", "Parotid_L", "PTV_7000")
    ]
    assert {r.ROIGenerationAlgorithm for r in written.StructureSetROISequence} == {"AUTOMATIC"}


def test_the_same_seed_gives_the_same_bytes_and_none_gives_new_uids(ct: CTSeries, tmp_path: Path) -> None:
    structures = Structures.from_masks({"A": np.ones(ct.grid.shape_kij, bool)}, ct.grid)
    a, b = (
        write_structures(tmp_path / n, structures, ct, HERE, uid_seed="x").path for n in ("a.dcm", "b.dcm")
    )
    assert a.read_bytes() == b.read_bytes()
    assert pydicom.dcmread(a).StructureSetDate == ct.header.StudyDate
    c, d = (write_structures(tmp_path / n, structures, ct, HERE) for n in ("c.dcm", "d.dcm"))
    assert c.sop_instance_uid != d.sop_instance_uid


def test_names_and_texts_of_any_language(ct: CTSeries, tmp_path: Path) -> None:
    mask = np.ones(ct.grid.shape_kij, bool)
    rois = [contours_of_mask(RoiInfo(name=n, color=(1, 2, 3)), mask) for n in ("Blase, gefüllt", "膀胱")]
    write_structure_set(tmp_path / "rs.dcm", rois, ct, HERE)
    assert load_structure_set(tmp_path / "rs.dcm").names == ("Blase, gefüllt", "膀胱")


def test_short_names_keep_their_side_and_are_told(ct: CTSeries, tmp_path: Path) -> None:
    mask = np.ones(ct.grid.shape_kij, bool)
    masks = dict.fromkeys(("Lung_Lobe_Upper_L", "Lung_Lobe_Upper_R", "Brain"), mask)
    structures = Structures.from_masks(masks, ct.grid)
    written = write_structures(tmp_path / "rs.dcm", structures, ct, HERE, profile="eclipse")
    assert written.names == {
        "Lung_Lobe_Upper_L": "Lung_Lobe_Uppe_L",
        "Lung_Lobe_Upper_R": "Lung_Lobe_Uppe_R",
        "Brain": "Brain",
    }
    assert written.notes[0] == "ROI Lung_Lobe_Upper_L is written as Lung_Lobe_Uppe_L"
    description = load_structure_set(written.path).rois[0].description
    assert description.startswith("ROI Lung_Lobe_Upper_L; contour-ai")


@pytest.mark.parametrize(("points", "syntax"), [(10, "1.2.840.10008.1.2.1"), (200, "1.2.840.10008.1.2")])
def test_explicit_vr_where_contours_fit(points: int, syntax: str, ct: CTSeries, tmp_path: Path) -> None:
    wave = np.linspace(0, 2 * np.pi, 40 * points, endpoint=False)
    polygon = np.stack([15 + 8.123456 * np.sin(wave), 12 + 7.654321 * np.cos(wave)], axis=1)
    roi = RoiContours(info=roi_info("A"), slices={3: [polygon]})
    profile = Profile(transfer_syntax="explicit")
    written = write_structure_set(tmp_path / "rs.dcm", [roi], ct, HERE, profile=profile)
    assert pydicom.dcmread(written.path).file_meta.TransferSyntaxUID == syntax
    assert bool(written.notes) == (syntax == "1.2.840.10008.1.2")
    assert len(load_structure_set(written.path).rois[0].contours[0].points_lps) == 40 * points


def test_numbers_have_no_more_digits_than_needed(written: pydicom.Dataset) -> None:
    text = str(written.ROIContourSequence[0].ContourSequence[0].ContourData[:3])
    assert max(len(str(v)) for v in written.ROIContourSequence[0].ContourSequence[0].ContourData) <= 7, text


# -- refusals ----------------------------------------------------------------------------------------------------


def test_a_file_that_reads_back_differently_is_not_kept(ct: CTSeries, tmp_path: Path) -> None:
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[3, 5:9, 5:9] = True
    other = mask.copy()
    other[6, 0, 0] = True
    with pytest.raises(
        VerificationError, match=r"voxels differ(.|\n)*ROI A(.|\n)*1 wrong voxels, the first on slice 7 "
    ):
        write_structure_set(
            tmp_path / "rs.dcm", [contours_of_mask(roi_info("A"), mask)], ct, HERE, verify={"A": other}
        )
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_replaced_only_when_asked(ct: CTSeries, tmp_path: Path) -> None:
    roi = contours_of_mask(roi_info("A"), np.ones(ct.grid.shape_kij, bool))
    path = write_structure_set(tmp_path / "rs.dcm", [roi], ct, HERE).path
    with pytest.raises(OutputError, match="exists already"):
        write_structure_set(path, [roi], ct, HERE)
    write_structure_set(path, [roi], ct, HERE, overwrite=True)


def test_impossible_structure_sets_are_refused(ct: CTSeries, tmp_path: Path) -> None:
    roi = contours_of_mask(roi_info("A"), np.ones(ct.grid.shape_kij, bool))
    path = tmp_path / "rs.dcm"
    with pytest.raises(InputError, match="at least one ROI"):
        write_structure_set(path, [], ct, HERE)
    with pytest.raises(InputError, match="same name"):
        write_structure_set(path, [roi, roi], ct, HERE)
    with pytest.raises(InputError, match="a slice that the CT does not have"):
        write_structure_set(path, [RoiContours(info=roi.info, slices={10: roi.slices[3]})], ct, HERE)
    with pytest.raises(GeometryError, match="another grid"):
        write_structures(path, Structures.empty(Grid.axial((1, 2, 3), (1, 1, 1)), ["A"]), ct, HERE)
    assert list(tmp_path.iterdir()) == []
