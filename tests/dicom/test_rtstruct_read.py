"""Structure sets as clinics send them: everything usable is used, and what is not is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian
from synthetic import axial, box_contours, structure_set, uid, write_stack

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set, read_structures
from contour_ai.errors import InputError

STACK = axial(8)
"""3 mm slices; a box contour of 4 mm around the middle of a slice of 12 x 10 voxels of 2 mm covers 4 x 4 voxels."""
VOXELS = 16


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("ct")
    write_stack(folder, STACK)
    return read_ct(folder, with_pixels=False)


@pytest.fixture
def read(ct: CTSeries, tmp_path: Path) -> Callable[..., tuple[dict[str, np.ndarray], list[str]]]:
    """Writes a structure set, spoiled by `edit`, and reads it: ({name: voxels a slice}, notes)."""

    def reader(rois: dict, edit: Callable[[FileDataset], object] = lambda d: None) -> tuple[dict, list[str]]:
        data_set = structure_set(STACK, rois)
        edit(data_set)
        data_set.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
        notes: list[str] = []
        masks = {n: m.sum(axis=(1, 2)) for n, m in iter_masks(tmp_path / "rs.dcm", ct, on_note=notes.append)}
        return masks, [n.removeprefix("rs.dcm: ") for n in notes]

    return reader


def on(slices: dict[int, int]) -> list[int]:
    return [slices.get(k, 0) for k in range(8)]


def contours(data_set: Dataset, roi: int = 0) -> pydicom.Sequence:
    return data_set.ROIContourSequence[roi].ContourSequence


def test_contours_without_any_image_reference(read, ct):
    def edit(d):
        del d.ReferencedFrameOfReferenceSequence
        del d.FrameOfReferenceUID

    masks, notes = read({"A": box_contours(STACK, [2, 3])}, edit)
    assert masks["A"].tolist() == on({2: VOXELS, 3: VOXELS})
    assert notes == []


def test_contours_given_twice_count_once(read):
    masks, _ = read({"A": box_contours(STACK, [2]) * 2})
    assert masks["A"].tolist() == on({2: VOXELS})


def test_inner_contours_are_holes_and_islands_in_them_are_not(read):
    rings = [box_contours(STACK, [3], half_mm=h)[0] for h in (8.0, 4.0, 2.0)]
    masks, notes = read({"A": rings})
    assert masks["A"].tolist() == on({3: 64 - 16 + 4})
    assert notes == []

    def edit(d):
        for c in contours(d):
            c.ContourGeometricType = "CLOSEDPLANAR_XOR"

    assert read({"A": rings}, edit)[0]["A"].tolist() == on({3: 52})


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_contours_without_area_are_named(kind, read):
    def edit(d):
        contours(d)[1].ContourGeometricType = kind

    masks, notes = read({"A": box_contours(STACK, [2, 5])}, edit)
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes[0].startswith(f"ROI A: 1 {kind} contour encloses no area and is not used (4 points around (")


def test_contours_of_one_or_two_points_are_named(read):
    box = box_contours(STACK, [2])[0]
    masks, notes = read({"A": [box, box[:1], box[:2]]})
    assert masks["A"].tolist() == on({2: VOXELS})
    assert "ROI A: 2 contours have fewer than 3 points, enclose no area" in notes[0]


def test_rois_without_contours_are_named_and_not_present(read, ct, tmp_path):
    def edit(d):
        del d.ROIContourSequence[0].ContourSequence
        del d.ROIContourSequence[1]

    masks, notes = read({"A": [], "B": [], "C": box_contours(STACK, [1])}, edit)
    assert masks["A"].sum() == masks["B"].sum() == 0
    assert notes == ["ROI A has no contours", "ROI B has no contours"]
    structures = read_structures(tmp_path / "rs.dcm", ct, on_note=notes.append)
    assert structures.presence == (False, False, True)


def test_names_given_twice_stay_apart(read):
    def edit(d):
        d.StructureSetROISequence[1].ROIName = "A "
        d.StructureSetROISequence[2].ROIName = ""

    boxes = box_contours(STACK, [1, 2, 3])
    masks, notes = read({"A": boxes[:1], "B": boxes[1:2], "C": boxes[2:]}, edit)
    assert {n: int(m.argmax()) for n, m in masks.items()} == {"A": 1, "A (2)": 2, "ROI_3": 3}
    assert notes == [
        "ROI A (number 2) is called A (2) here",
        "ROI without name (number 3) is called ROI_3 here",
    ]


def test_numbers_in_any_order_and_numbers_that_lead_nowhere(read):
    def edit(d):
        for roi, shown, number in zip(d.StructureSetROISequence, d.ROIContourSequence, (7, 3), strict=True):
            roi.ROINumber = shown.ReferencedROINumber = number
        d.ROIContourSequence = pydicom.Sequence([*reversed(d.ROIContourSequence), Dataset(), Dataset()])
        d.ROIContourSequence[2].ReferencedROINumber = 99
        d.RTROIObservationsSequence = pydicom.Sequence()

    masks, notes = read({"A": box_contours(STACK, [1]), "B": box_contours(STACK, [6])}, edit)
    assert {n: int(m.argmax()) for n, m in masks.items()} == {"A": 1, "B": 6}
    assert notes == [
        "an item of ROIContourSequence refers to no ROI number and is not used",
        "contours refer to ROI number 99, which is not in the list of ROIs; not used",
    ]


def references(data_set: Dataset, uids: list[str]) -> None:
    for contour, sop in zip(contours(data_set), uids, strict=True):
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", sop
        contour.ContourImageSequence = pydicom.Sequence([image])


def test_unknown_images_are_no_obstacle(read):
    masks, notes = read({"A": box_contours(STACK, [2])}, lambda d: references(d, ["1.2.3"]))
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes == []


def test_the_plane_decides_where_the_image_disagrees(read):
    wrong = uid(STACK.series, "slice", 6)
    masks, notes = read({"A": box_contours(STACK, [2])}, lambda d: references(d, [wrong]))
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes == [
        "ROI A: 1 contour refers to another image than the one on whose plane it lies; the plane decides "
        "(image of slice 7 (z = -32.0 mm), contour on slice 3 (z = -44.0 mm))"
    ]


def test_contours_a_little_off_are_used_and_told(read):
    masks, notes = read({"A": [box_contours(STACK, [2])[0] + np.array([0, 0, 0.7])]})
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes == [
        "ROI A: 1 contour lies off its slice and is used there (0.70 mm off slice 3 (z = -44.0 mm))"
    ]


def test_contours_on_no_slice_are_named(read):
    box = box_contours(STACK, [2])[0]
    masks, notes = read({"A": [box + np.array([0, 0, 1.5]), box + np.array([0, 0, 100])]})
    assert masks["A"].sum() == 0
    assert notes[0].startswith("ROI A: 2 contours lie on no slice and are not used (4 points around (")
    assert "1.50 mm from the nearest slice" in notes[0]


def test_contours_across_slices_are_named(read):
    box = box_contours(STACK, [2])[0]
    box[0, 2] += 5
    masks, notes = read({"A": [box]})
    assert masks["A"].sum() == 0
    assert "1 contour does not lie in a slice plane and is not used" in notes[0]


def test_of_two_planes_on_one_slice_the_nearer_is_used(read):
    large, small = (box_contours(STACK, [2], half_mm=h)[0] for h in (6.0, 4.0))
    masks, notes = read({"A": [large + np.array([0, 0, 1.0]), small + np.array([0, 0, -0.4])]})
    assert masks["A"].tolist() == on({2: VOXELS})
    assert any("1 contour is of a second plane on a slice that has a nearer one" in n for n in notes)


def test_missing_slices_leave_contours_without_a_slice(tmp_path):
    ct = _ct_with_gap(tmp_path)
    structure_set(STACK, {"A": box_contours(STACK, range(8))}).save_as(
        tmp_path / "rs.dcm", enforce_file_format=True
    )
    notes: list[str] = []
    ((_, mask),) = iter_masks(tmp_path / "rs.dcm", ct, on_note=notes.append)
    assert mask.sum(axis=(1, 2)).tolist() == [VOXELS] * 6
    assert "ROI A: 2 contours lie on no slice and are not used" in notes[0]


def _ct_with_gap(tmp_path: Path) -> CTSeries:
    """A stack with missing slices, which read_ct refuses; here only the placing of contours is of interest."""
    write_stack(tmp_path / "whole", STACK)
    whole = read_ct(tmp_path / "whole", with_pixels=False)
    kept = [0, 1, 2, 5, 6, 7]
    grid = replace(whole.grid, shape_kij=(6, 12, 10), positions_lps=whole.grid.positions_lps[kept])
    return replace(whole, grid=grid, sop_instance_uids=tuple(whole.sop_instance_uids[k] for k in kept))


def test_damaged_numbers_are_named(read):
    def edit(d):
        contours(d)[0][0x30060050] = DataElement(0x30060050, "DS", "1\\2\\x", already_converted=True)
        contours(d)[1].ContourData = [1, 2, 3, 4]

    masks, notes = read({"A": box_contours(STACK, [1, 2, 3])}, edit)
    assert masks["A"].tolist() == on({3: VOXELS})
    assert notes == [
        "ROI A: 2 contours cannot be read and are not used (contour 1: 'x' is no number; "
        "contour 2: 4 numbers, which is not a multiple of 3)"
    ]


def test_files_without_preamble_or_meta_are_read(ct, tmp_path):
    data_set = structure_set(STACK, {"A": box_contours(STACK, [1])})
    path = tmp_path / "RS"
    data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data_set.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    path.write_bytes(whole[whole.find(b"\x08\x00\x05\x00") :])
    assert load_structure_set(path).names == ("A",)


def test_another_frame_of_reference_is_told(read):
    def edit(d):
        d.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"

    masks, notes = read({"A": box_contours(STACK, [1])}, edit)
    assert masks["A"].sum() == VOXELS
    assert "frame of reference 1.2.3 is not the CT's" in notes[0]


def test_another_patients_is_refused(read):
    def edit(d):
        d.PatientID = "P2"
        del d.ReferencedFrameOfReferenceSequence
        for roi in d.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = "1.2.3"

    with pytest.raises(InputError, match=r"belongs to another patient(.|\n)*found: patient P2"):
        read({"A": box_contours(STACK, [1])}, edit)


def test_what_is_no_structure_set_is_refused(ct, tmp_path):
    with pytest.raises(InputError, match=r"no structure set(.|\n)*modality CT"):
        load_structure_set(ct.paths[0])
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not DICOM at all, just a text that is long enough", encoding="utf-8")
    for name in ("empty", "text", "missing"):
        with pytest.raises(InputError, match=name):
            load_structure_set(tmp_path / name)
    path = tmp_path / "cut.dcm"
    structure_set(STACK, {"A": box_contours(STACK, range(8))}).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError, match=r"cut\.dcm"):
        load_structure_set(path)


def test_wanted_names_come_in_their_order(ct, tmp_path):
    data_set = structure_set(STACK, {"A": box_contours(STACK, [1]), "B": box_contours(STACK, [2])})
    data_set.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    notes: list[str] = []
    structures = read_structures(tmp_path / "rs.dcm", ct, names=["B", "X", "A"], on_note=notes.append)
    assert structures.names == ("B", "X", "A")
    assert structures.presence == (True, False, True)
    assert notes == ["rs.dcm: there is no ROI X"]
    assert np.flatnonzero(structures.mask("B").any(axis=(1, 2))).tolist() == [2]


def test_more_than_64_rois_are_streamed_only(ct, tmp_path):
    rois = {f"R{n}": box_contours(STACK, [1]) for n in range(65)}
    structure_set(STACK, rois).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"Too many ROIs(.|\n)*65(.|\n)*name the ROIs"):
        read_structures(tmp_path / "rs.dcm", ct)
    assert len(list(iter_masks(tmp_path / "rs.dcm", ct))) == 65


# -- values that are not as the standard wants them ----------------------------------------------------------------


def raw(item: Dataset, tag: int, vr: str, value: bytes) -> None:
    item[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


BOXES = {"A": box_contours(STACK, [1, 2]), "B": box_contours(STACK, [4])}
WHOLE = {"A": on({1: VOXELS, 2: VOXELS}), "B": on({4: VOXELS})}


@pytest.mark.parametrize("value", [b"255 ", b"red ", b"a\\b\\c ", b"255,0,0 ", b"1\\2\\300 ", b"1\\2\\3\\4 "])
def test_a_bad_colour_is_not_used(value: bytes, read, tmp_path: Path) -> None:
    masks, notes = read(BOXES, lambda d: raw(d.ROIContourSequence[0], 0x3006002A, "IS", value))
    assert {n: m.tolist() for n, m in masks.items()} == WHOLE
    shown = value.decode().strip()
    assert notes == [f"ROI A: ROIDisplayColor is {shown!r}, not three numbers from 0 to 255, and is not used"]
    assert [roi.color for roi in load_structure_set(tmp_path / "rs.dcm").rois] == [None, (255, 0, 0)]


def roi_numbers(d: Dataset, value: bytes) -> None:
    raw(d.StructureSetROISequence[0], 0x30060022, "IS", value)
    for sequence in (d.ROIContourSequence, d.RTROIObservationsSequence):
        raw(sequence[0], 0x30060084, "IS", value)


@pytest.mark.parametrize(
    ("value", "said"), [(b"1.0 ", True), (b"+1", False), (b"01", False), (b" 1 ", False)]
)
def test_roi_numbers_that_are_whole_numbers_after_all(value: bytes, said: bool, read) -> None:
    masks, notes = read(BOXES, lambda d: roi_numbers(d, value))
    assert {n: m.tolist() for n, m in masks.items()} == WHOLE
    assert notes == (["ROINumber is written '1.0' and is taken for 1"] if said else [])


@pytest.mark.parametrize("value", [b"1.5 ", b"one ", b"1e3 ", b"9" * 40, b""])
def test_other_roi_numbers_are_named(value: bytes, read) -> None:
    masks, notes = read(BOXES, lambda d: roi_numbers(d, value))
    assert {n: m.tolist() for n, m in masks.items()} == {"B": WHOLE["B"]}
    assert notes == [
        "an item of ROIContourSequence refers to no ROI number and is not used",
        "ROI A has no number and is not used",
    ]


@pytest.mark.parametrize("kind", ["INTERPOLATED_PLANAR", "CLOSED PLANAR", "closed_planar", "PLANAR", ""])
def test_unknown_types_of_closed_contours_are_used(kind: str, read) -> None:
    masks, notes = read(BOXES, lambda d: setattr(contours(d)[0], "ContourGeometricType", kind))
    assert {n: m.tolist() for n, m in masks.items()} == WHOLE
    said = f"of type {kind!r}" if kind else "without ContourGeometricType"
    told = (
        []
        if kind == "closed_planar"
        else [f"ROI A: 1 contour {said} is used as CLOSED_PLANAR (slice 2 (z = -47.0 mm))"]
    )
    assert notes == told


@pytest.mark.parametrize("kind", ["CLOSED_NONPLANAR", "OPEN", "LINE", "POINTS"])
def test_unknown_types_without_area_are_not_used(kind: str, read) -> None:
    masks, notes = read(BOXES, lambda d: setattr(contours(d)[0], "ContourGeometricType", kind))
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes[0].startswith(f"ROI A: 1 {kind} contour encloses no area and is not used")


def test_two_items_of_contours_for_a_roi_are_joined(read) -> None:
    def edit(d: Dataset) -> None:
        second = Dataset()
        second.ReferencedROINumber = 1
        second.ContourSequence = pydicom.Sequence([contours(d)[1]])
        del contours(d)[1]
        d.ROIContourSequence.append(second)

    masks, notes = read(BOXES, edit)
    assert {n: m.tolist() for n, m in masks.items()} == WHOLE
    assert notes == ["ROI number 1 has two items of contours; both are used"]


def test_of_rois_with_one_number_nobody_knows_whose_the_second_contours_are(read) -> None:
    def edit(d: Dataset) -> None:
        for sequence in (d.StructureSetROISequence, d.ROIContourSequence):
            for item in sequence:
                item[next(t for t in (0x30060022, 0x30060084) if t in item)].value = 1

    masks, notes = read(BOXES, edit)
    assert {n: m.tolist() for n, m in masks.items()} == {"A": WHOLE["A"]}
    assert notes == [
        "ROI number 1 has two items of contours; the second one is not used",
        "ROI B has the number 1 of another one and is not used",
    ]


def test_absurd_coordinates_are_named(read) -> None:
    masks, notes = read(
        BOXES, lambda d: raw(contours(d)[0], 0x30060050, "DS", b"1e308\\2\\3\\4\\5\\6\\7\\8\\9 ")
    )
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes == ["ROI A: 1 contour cannot be read and is not used (contour 1: a coordinate is 1e+308 mm)"]


def test_gaps_within_a_roi_are_said(read) -> None:
    _, notes = read({"A": box_contours(STACK, [0, 2, 3, 6])})
    assert notes == [
        "ROI A: 3 slices within it have no contour, of 7 from its first to its last "
        "(slices 2, 5-6 (z = -47.0 to -35.0 mm)); nothing is interpolated"
    ]
    coarse = [
        c + np.array([0, 0, dz])
        for c, dz in zip(box_contours(STACK, [0, 1, 3, 4]), (0, 1.0, -1.0, 0), strict=True)
    ]
    masks, notes = read({"A": coarse})  # planes of 4 mm on slices of 3 mm
    assert masks["A"].tolist() == on({0: VOXELS, 1: VOXELS, 3: VOXELS, 4: VOXELS})
    assert notes[-1].startswith(
        "ROI A: 1 slice within it has no contour, of 5 from its first to its last (slice 3"
    )


def test_overlaps_and_copies_are_said(read) -> None:
    box = box_contours(STACK, [2])[0]
    masks, notes = read({"A": [box, box + np.array([4.0, 4.0, 0])]})
    assert masks["A"].tolist() == on({2: 2 * VOXELS - 4})
    assert notes == [
        "ROI A: 2 contours overlap each other in part and count as one area (slice 3 (z = -44.0 mm)); other "
        "systems may cut out what they share"
    ]
    masks, notes = read({"A": [box, box[::-1] + np.array([0.2, 0, 0])]})
    assert masks["A"].tolist() == on({2: VOXELS})
    assert notes == ["ROI A: 1 contour is there twice and counts once (slice 3 (z = -44.0 mm))"]

    def xor(d: Dataset) -> None:
        for contour in contours(d):
            contour.ContourGeometricType = "CLOSEDPLANAR_XOR"

    masks, notes = read({"A": [box, box + np.array([4.0, 4.0, 0])]}, xor)
    assert masks["A"].tolist() == on({2: 2 * VOXELS - 8})
    assert notes == []


def test_a_name_with_line_ends_stays_on_one_line(read):
    masks, notes = read({"left\neye": box_contours(STACK, [2])})
    assert list(masks) == ["left eye"]
    assert notes == ["ROI 'left\\neye' (number 1) is called left eye here"]
