"""Structure sets in several frames of reference: a ROI of another one is never put on the CT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from synthetic import axial, box_contours, structure_set, uid, write_stack

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set, read_structures

STACK = axial(6)
CT, MR, PET = uid(STACK.frame), uid("frame of the MR"), uid("frame of the PET")


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("ct")
    write_stack(folder, STACK)
    return read_ct(folder, with_pixels=False)


def image(n: int, of: str = "MR") -> str:
    return uid(of, "image", n)


def second_frame(d: Dataset, frame: str = MR, of: str = "MR", *, first: bool = False) -> None:
    """Lists images of another modality beside the CT's."""
    item = deepcopy(d.ReferencedFrameOfReferenceSequence[0])
    item.FrameOfReferenceUID = frame
    series = item.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.SeriesInstanceUID = uid(of, "series")
    for n, listed in enumerate(series.ContourImageSequence):
        listed.ReferencedSOPInstanceUID = image(n, of)
    items = list(d.ReferencedFrameOfReferenceSequence)
    d.ReferencedFrameOfReferenceSequence = pydicom.Sequence([item, *items] if first else [*items, item])


def roi_frame(d: Dataset, frame: str | None, n: int = 1) -> None:
    if frame is None:
        del d.StructureSetROISequence[n].ReferencedFrameOfReferenceUID
    else:
        d.StructureSetROISequence[n].ReferencedFrameOfReferenceUID = frame


def roi_images(d: Dataset, uids: Sequence[str], n: int = 1) -> None:
    for contour, sop in zip(d.ROIContourSequence[n].ContourSequence, uids, strict=False):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", sop
        contour.ContourImageSequence = pydicom.Sequence([item])


def mr_images(d: Dataset) -> None:
    roi_images(d, [image(n) for n in range(6)])


def ct_images(d: Dataset) -> None:
    roi_images(d, [uid(STACK.series, "slice", k) for k in (2, 3)])


def no_frames(d: Dataset) -> None:
    del d.ReferencedFrameOfReferenceSequence
    del d.FrameOfReferenceUID
    for roi in d.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID


def all_other(d: Dataset, *, series: str | None = None) -> None:
    """As after anonymisation: another frame of reference everywhere."""
    d.FrameOfReferenceUID = d.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = PET
    for n in range(2):
        roi_frame(d, PET, n)
    if series is not None:
        listed = (
            d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
        )
        listed.SeriesInstanceUID = series
        del listed.ContourImageSequence


def steps(*edits: Callable[[Dataset], object]) -> Callable[[Dataset], None]:
    def edit(d: Dataset) -> None:
        for step in edits:
            step(d)

    return edit


LEFT_OUT = {
    "listed MR, CT first": (
        steps(second_frame, lambda d: roi_frame(d, MR), mr_images),
        "its frame of reference is",
    ),
    "listed MR, MR first": (
        steps(lambda d: second_frame(d, first=True), lambda d: roi_frame(d, MR), mr_images),
        "its frame of reference is",
    ),
    "no images": (steps(second_frame, lambda d: roi_frame(d, MR)), "its frame of reference is"),
    "a frame that nothing lists": (lambda d: roi_frame(d, MR), "its frame of reference is"),
    "images of the CT, but another frame": (
        steps(lambda d: roi_frame(d, MR), ct_images),
        "its frame of reference is",
    ),
    "only the images are of the MR": (
        steps(second_frame, lambda d: roi_frame(d, None), mr_images),
        f"its contours refer to images of frame of reference {MR}",
    ),
    "neither frame nor images, where there are two": (
        steps(second_frame, lambda d: roi_frame(d, None)),
        "it names no frame of reference, and the structure set has 2",
    ),
    "three frames": (
        steps(second_frame, lambda d: second_frame(d, PET, "PET"), lambda d: roi_frame(d, PET)),
        f"its frame of reference is {PET}, the CT's is {CT}",
    ),
}

USED = {
    "no frames at all": no_frames,
    "one frame, ROI without": lambda d: roi_frame(d, None),
    "MR listed, but unused": second_frame,
    "drawn on MR images in the CT's frame": steps(second_frame, mr_images),
    "only the images are of the CT": steps(second_frame, lambda d: roi_frame(d, None), ct_images),
    "images of a series before it was anonymised": lambda d: roi_images(d, ["1.2.3", "1.2.4"]),
    "another frame everywhere, but the CT's series": all_other,
    "another frame everywhere, but the CT's images": steps(
        lambda d: all_other(d, series="1.2.3"), lambda d: roi_images(d, STACK_IMAGES, 0), ct_images
    ),
}
STACK_IMAGES = [uid(STACK.series, "slice", k) for k in (1, 2)]


def written(path: Path, edit: Callable[[Dataset], object]) -> Path:
    data_set: FileDataset = structure_set(
        STACK, {"A": box_contours(STACK, [1, 2]), "B": box_contours(STACK, [2, 3])}
    )
    edit(data_set)
    data_set.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("case", LEFT_OUT)
def test_rois_of_another_frame_are_left_out_and_named_once(case: str, ct: CTSeries, tmp_path: Path) -> None:
    edit, why = LEFT_OUT[case]
    path = written(tmp_path / "rs.dcm", edit)
    notes: list[str] = []
    masks = {name: int(mask.sum()) for name, mask in iter_masks(path, ct, on_note=notes.append)}
    assert masks == {"A": 32, "B": 0}
    (note,) = notes
    assert note.startswith(f"rs.dcm: ROI B was not drawn on this CT and is left out: {why}")
    assert read_structures(path, ct, on_note=notes.append).presence == (True, False)
    left = drawn_on(load_structure_set(path), ct)
    assert left.names == ("A",)
    assert [str(n) for n in left.notes] == [note.removeprefix("rs.dcm: ")]


@pytest.mark.parametrize("case", USED)
def test_what_was_drawn_on_the_ct_is_used(case: str, ct: CTSeries, tmp_path: Path) -> None:
    path = written(tmp_path / "rs.dcm", USED[case])
    notes: list[str] = []
    masks = {name: int(mask.sum()) for name, mask in iter_masks(path, ct, on_note=notes.append)}
    assert masks == {"A": 32, "B": 32}
    told = [n for n in notes if "is not the CT's" in n]
    assert bool(told) == case.startswith("another frame everywhere")
    assert len(notes) == len(told)
    assert drawn_on(load_structure_set(path), ct).names == ("A", "B")


def test_another_frame_everywhere_and_nothing_of_the_ct(ct: CTSeries, tmp_path: Path) -> None:
    path = written(tmp_path / "rs.dcm", lambda d: all_other(d, series="1.2.3"))
    assert read_structures(path, ct, on_note=lambda _: None).presence == (False, False)


def test_a_ct_without_a_frame_takes_what_names_one(ct: CTSeries, tmp_path: Path) -> None:
    without = replace(ct, grid=replace(ct.grid, frame_of_reference_uid=""))
    path = written(tmp_path / "rs.dcm", lambda d: None)
    assert read_structures(path, without, on_note=lambda _: None).presence == (True, True)
    path = written(tmp_path / "rs.dcm", steps(second_frame, lambda d: roi_frame(d, MR), mr_images))
    assert read_structures(path, without, on_note=lambda _: None).presence == (True, False)
