"""Reads a CT series: files in any order to Hounsfield units on a checked grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from contour_ai.dicom.acquisitions import one_acquisition, overlapping_acquisitions
from contour_ai.dicom.header import read_header
from contour_ai.dicom.interleaved import resembling_turns
from contour_ai.dicom.joining import joined_frames
from contour_ai.dicom.notes import (
    PASSES_SUSPECTED,
    code_of,
    neighbours_unlike,
    value_corrected,
    value_not_used,
)
from contour_ai.dicom.patient_module import FROM_CT
from contour_ai.dicom.pixels import read_hu, same_image
from contour_ai.dicom.scan import CTSeriesFiles, find_patient
from contour_ai.dicom.slice_header import Slice, read_slices
from contour_ai.dicom.slices import Gap, check_alike, find_gaps, stack, told, without_repeats
from contour_ai.dicom.values import convertible, text
from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import Grid
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.volume import Volume


@dataclass(frozen=True, eq=False, kw_only=True)
class CTSeries:
    """A CT series, slices in the order of `grid`: k ascends along the slice normal.

    Args:
        grid: where its voxels lie.
        volume: Hounsfield units, int16 where that is exact, else float32; None where read without pixels.
        header: everything that the file of slice 0 says, without its pixels and what pydicom cannot convert.
        sop_class_uid: SOPClassUID of the files, empty where they have none.
        sop_instance_uids: SOPInstanceUID, one for each slice in the order of `grid`; the same for all in a multi-frame
            file; empty where a file has none.
        paths: the files, one for each slice in the order of `grid`.
        frame_numbers: frame of its file, from 1, one for each slice; empty for single-frame files.
        gaps: where slices are missing.
        notes: sentences on what is unusual, for the user.
        series_instance_uids: one for each slice, where they differ from slice to slice; else empty.
        beside: the other CT series of the folder, which were not read.
    """

    grid: Grid
    volume: Volume | None
    header: Dataset
    sop_class_uid: str
    sop_instance_uids: tuple[str, ...]
    paths: tuple[Path, ...]
    frame_numbers: tuple[int, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()
    series_instance_uids: tuple[str, ...] = ()
    beside: tuple[CTSeriesFiles, ...] = ()

    @property
    def hu(self) -> NDArray[np.int16 | np.float32]:
        """Hounsfield units (k, i, j) = (slice, row, column), int16 or float32.

        Raises:
            InputError: the series was read without pixels.
        """
        if self.volume is None:
            raise InputError(
                "This CT series was read without its pixels.",
                where=self.paths[0].parent,
                fix="read it again, with pixels (the default of `read_ct`)",
            )
        return cast("NDArray[np.int16 | np.float32]", self.volume.hu)

    @property
    def patient_id(self) -> str:
        """PatientID, empty where there is none."""
        return text(self.header, "PatientID")

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID, empty where there is none."""
        return text(self.header, "SeriesInstanceUID")


def overlapping_in(files: CTSeriesFiles) -> list[int]:
    """The numbers of the acquisitions in a series, of which some overlap; empty where it is one scan.

    Raises:
        InputError: a file is damaged.
        GeometryError: the slices are not alike.
    """
    found = read_slices(files.paths)
    check_alike(found)
    return [one.number for one in overlapping_acquisitions(found)]


def read_ct(
    source: str | Path | Sequence[Path] | CTSeriesFiles,
    *,
    series_uid: str | None = None,
    acquisition: int | None = None,
    with_pixels: bool = True,
    on_progress: OnProgress = no_progress,
) -> CTSeries:
    """Reads one CT series from a folder or from files.

    Slices are sorted by the projection of ImagePositionPatient on the slice normal (PS3.3 C.7.6.2.1.1), whatever the
    files are called. A slice that is there twice is used once.

    Args:
        source: a folder, searched with its subfolders; its files; or a series that was found before.
        series_uid: SeriesInstanceUID of the series to take where there are several.
        acquisition: AcquisitionNumber to take where several acquisitions overlap in the series; it has to be there.
            None refuses such a series, unless it was found before with an acquisition chosen.
        with_pixels: False reads the headers alone, which is quicker: `CTSeries.volume` is None.
        on_progress: told how many files are read.

    Returns:
        The series with its grid; Hounsfield units (k, i, j), k ascending along the slice normal.

    Raises:
        InputError: there is not exactly one CT series to choose, or a file is damaged.
        GeometryError: the slices do not form one stack: they differ in size, direction or spacing, two different
            ones share a place, or several acquisitions overlap and none was chosen.
    """
    source = Path(source) if isinstance(source, str) else source
    files = source if isinstance(source, CTSeriesFiles) else find_patient(source, series_uid=series_uid).ct
    found = read_slices(files.paths, _progress(on_progress, "reading CT headers", len(files.paths)))
    check_alike(found)
    one, chosen = (
        one_acquisition(found, acquisition)
        if acquisition is not None
        else one_acquisition(found, files.acquisition, only_among_several=True)
    )
    frames = joined_frames(one)
    slices, repeats = without_repeats(one, same_image)
    grid, gaps = stack(slices), find_gaps(slices)
    volume: Volume | None = None
    of_pixels: tuple[str, ...] = ()
    if with_pixels:
        number_of_files = len({s.path for s in slices})
        hu = read_hu(slices, _progress(on_progress, "reading CT", number_of_files))
        volume, of_pixels = Volume(hu.values, grid), hu.notes
        turns = (
            0 if any(code_of(note) == PASSES_SUSPECTED for note in chosen) else resembling_turns(hu.values)
        )
        of_pixels = (*of_pixels, neighbours_unlike(turns)) if turns else of_pixels
    notes = (
        *files.notes,
        *chosen,
        *([frames] if frames else []),
        *repeats,
        *_notes(slices, grid, gaps),
        *of_pixels,
    )
    series = [s.series_instance_uid or files.series_instance_uid for s in slices]
    return CTSeries(
        grid=grid,
        volume=volume,
        header=_header(slices[0].path, files),
        sop_class_uid=slices[0].sop_class_uid,
        sop_instance_uids=tuple(s.sop_instance_uid for s in slices),
        paths=tuple(s.path for s in slices),
        frame_numbers=tuple(s.frame for s in slices if s.frame is not None),
        gaps=gaps,
        notes=notes,
        series_instance_uids=tuple(series) if len(set(series)) > 1 else (),
        beside=tuple(one for one in files.siblings if one.paths != files.paths),
    )


def _header(path: Path, files: CTSeriesFiles) -> Dataset:
    """What the file of a slice says; patient, study and series may stand in other files alone."""
    header = convertible(read_header(path), keep=FROM_CT)
    for keyword, value in (
        ("StudyInstanceUID", files.study_instance_uid),
        ("SeriesInstanceUID", files.series_instance_uid),
        ("PatientID", files.patient_id),
    ):
        if value and not text(header, keyword):
            setattr(header, keyword, value)
    return header


def refuse_missing_slices(ct: CTSeries) -> None:
    """Raises GeometryError where slices are missing, so that an image would have to be made up between the others.

    For what looks at the image as a whole, as a network does: an organ may lie in the gap, or be cut off by it, and a
    series that lacks one slice was not copied whole.
    """
    if not ct.gaps:
        return
    raise GeometryError(
        f"{sum(gap.missing for gap in ct.gaps)} slice(s) of this CT series are missing; what lies there is not known.",
        where=ct.paths[0].parent,
        found=told(ct.gaps),
        expected=f"{ct.gaps[0].usual_mm:g} mm between slices, as everywhere else in the series",
        fix="export or copy the whole series again; to-masks, to-rtstruct and check work on the slices that are there",
    )


def _progress(on_progress: OnProgress, stage: str, total: int) -> Callable[[int], None]:
    return lambda done: on_progress(ProgressEvent(stage=stage, done=done, total=total))


def _notes(slices: Sequence[Slice], grid: Grid, gaps: Sequence[Gap]) -> list[str]:
    """What is unusual in a stack that can be used."""
    notes = []
    if gaps:
        notes.append(
            f"{sum(gap.missing for gap in gaps)} slice(s) are missing: {told(gaps)}, elsewhere "
            f"{gaps[0].usual_mm:g} mm; the others keep their own positions"
        )
    elif not grid.is_uniform:
        spacings = grid.slice_spacings_mm
        notes.append(
            f"the slices are not equally spaced ({spacings.min():g} to {spacings.max():g} mm); "
            "each is used at its own position"
        )
    if grid.is_sheared:
        notes.append(
            f"the stack is sheared by {_tilt_degrees(grid):.1f} degrees (gantry tilt); "
            "each slice is used at its own position"
        )
    if grid.shape_kij[0] == 1 and not slices[0].thickness_mm:
        notes.append("a single slice without SliceThickness: 1 mm is assumed, volumes depend on it")
    if any(s.slope is None or s.intercept is None for s in slices):
        notes.append("slices without RescaleSlope or RescaleIntercept: their stored values are taken as HU")
    uids = Counter(s.sop_instance_uid for s in slices if s.frame is None)
    if uids.pop("", 0):
        notes.append("slices without SOPInstanceUID: a structure set cannot refer to them by UID")
    if any(count > 1 for count in uids.values()):
        notes.append("slices that share a SOPInstanceUID: contours are placed by position alone")
    if not grid.frame_of_reference_uid:
        notes.append("no FrameOfReferenceUID: a structure set of this CT will have to be given one")
    return [*notes, *_number_notes(slices), *_missing_ends(slices)]


def _number_notes(slices: Sequence[Slice]) -> list[str]:
    """Numbers that are not written as the standard wants them."""
    corrected: dict[str, list[tuple[str, float]]] = {}
    unused: dict[str, list[str]] = {}
    for one in slices:
        for keyword, written, taken in one.corrected:
            corrected.setdefault(keyword, []).append((written, taken))
        for keyword, written in one.unused:
            unused.setdefault(keyword, []).append(written)
    return [
        *(
            value_corrected(
                f"{len(values)} slice(s): ",
                keyword,
                values[0][0],
                f"numbers with a decimal comma, {values[0][1]:g}",
            )
            for keyword, values in corrected.items()
        ),
        *(
            value_not_used(f"{len(values)} slice(s): ", keyword, values[0], "a number of mm")
            for keyword, values in unused.items()
        ),
    ]


def _missing_ends(slices: Sequence[Slice]) -> list[str]:
    """Slices that the files themselves say are missing, where no gap shows it: at an end of the scan."""
    promised: dict[str, list[int]] = {}
    for one in slices:
        if one.images_in_acquisition is not None:
            promised.setdefault(one.acquisition_number, []).append(one.images_in_acquisition)
    lost = {
        number: (len(counts), counts[0])
        for number, counts in promised.items()
        if len(set(counts)) == 1 and len(counts) < counts[0]
    }
    return [
        f"{here} of {of} slices of the acquisition are here (ImagesInAcquisition); the others may be missing at an "
        "end of the scan"
        for here, of in lost.values()
    ]


def _tilt_degrees(grid: Grid) -> float:
    along = grid.positions_lps[-1] - grid.positions_lps[0]
    cosine = float(along @ grid.normal) / float(np.linalg.norm(along))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
