"""Writes ROIs as a DICOM Segmentation on the CT's own pixels (PS3.3 A.51), with highdicom."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from contour_ai import __version__
from contour_ai.box import Box, bounding_box
from contour_ai.dicom.header import UNREADABLE, read_header
from contour_ai.dicom.profile import load_profile
from contour_ai.dicom.roi_names import written_names
from contour_ai.dicom.seg_codes import segment_codes
from contour_ai.errors import ConfigError, InputError, VerificationError
from contour_ai.files import SEG, atomic_file
from contour_ai.structures.roi_record import roi_info

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

    from contour_ai.dicom.ct import CTSeries

PRODUCT = "contour-ai"
TYPE_2 = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
"""Patient and study attributes of type 2, which highdicom copies from the CT."""
MAX_LABEL = 64
"""Texts of the file are LO."""
FRACTIONAL_STEPS = 255
NO_PYJPEGLS = (3, 14)
"""First version of Python without a wheel of pyjpegls, which highdicom's installation asks for (its code does not)."""
Algorithm = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One ROI to write.

    Args:
        name: SegmentLabel.
        box: where `values` lies on the CT's grid.
        values: (k, i, j) in the box: boolean, or probabilities from 0 to 1.
        color: RGB, 0 to 255.
    """

    name: str
    box: Box
    values: NDArray[np.bool_] | NDArray[np.floating]
    color: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class SegmentationOrigin:
    """Where a segmentation comes from.

    Args:
        label: ContentLabel; shortened to 16 characters of a code string.
        description: ContentDescription and SeriesDescription, at most 64 characters are written.
        algorithm: how the ROIs were made.
        algorithm_name, algorithm_version: the model, or the program.
    """

    label: str = "CONTOURS"
    description: str = ""
    algorithm: Algorithm = "AUTOMATIC"
    algorithm_name: str = PRODUCT
    algorithm_version: str = __version__


def write_segmentation(
    path: Path,
    segments: Sequence[Segment],
    ct: CTSeries,
    origin: SegmentationOrigin | None = None,
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> str:
    """Writes one SEG file, reads it back and compares before it is kept.

    Names are written as `labelled` gives them, boolean values as BINARY, probabilities as FRACTIONAL (PROBABILITY, 255
    steps). Frames without a voxel are left out, as the standard allows.

    Returns:
        The SOPInstanceUID of the file.

    Raises:
        ConfigError: highdicom is not installed.
        InputError: nothing to write, or the CT lacks what a SEG has to repeat of it.
        OutputError: `path` exists or cannot be written.
        VerificationError: the file did not read back equal.
    """
    origin = origin or SegmentationOrigin()
    if not segments:
        raise InputError("There is no ROI to write into a segmentation.", where=path)
    segments = labelled(segments)
    fractional = {segment.values.dtype.kind == "f" for segment in segments}
    if len(fractional) > 1:
        raise InputError("Masks and probabilities cannot stand in one segmentation.", where=path)
    try:
        data_set = _build(segments, ct, origin, fractional=fractional.pop())
    except UNREADABLE as error:
        raise InputError(
            "The CT lacks what a DICOM SEG has to repeat of it.",
            where=ct.paths[0],
            found=f"{type(error).__name__}: {error}",
            fix="write an RTSTRUCT instead, or export the CT again with all its attributes",
        ) from error
    with atomic_file(path, overwrite=overwrite, inputs=[*inputs, *ct.paths], kind=SEG) as temporary:
        data_set.save_as(temporary, enforce_file_format=True)
        _verify(temporary, path, segments, ct)
    return str(data_set.SOPInstanceUID)


def labelled(segments: Sequence[Segment]) -> list[Segment]:
    """The segments under names that a SegmentLabel can hold: 64 characters, no spaces at the ends, no two alike."""
    names = written_names((s.name for s in segments), load_profile("generic"))
    return [replace(s, name=names[s.name]) for s in segments]


@dataclass(frozen=True)
class WrittenSegmentation:
    """Voxels of every segment that was written, and the names of ROIs without a voxel, which were not."""

    voxels: dict[str, int]
    empty: tuple[str, ...]
    renamed: dict[str, str]
    """{name in the file: name of the ROI}, of those that a SegmentLabel cannot hold as they are."""


def write_masks(
    path: Path,
    masks: Iterable[tuple[str, NDArray[np.bool_]]],
    ct: CTSeries,
    origin: SegmentationOrigin | None = None,
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> WrittenSegmentation:
    """Writes (ROI name, mask (k, i, j) of the CT's grid) as `write_segmentation` does, in the colours of the names.

    Raises:
        as `write_segmentation`.
    """
    segments, empty = [], []
    for name, mask in masks:
        box = bounding_box(mask)
        if box is None:
            empty.append(name)
        else:
            color = roi_info(name).color
            segments.append(Segment(name=name, box=box, values=mask[box].copy(), color=color))
    if not segments:
        raise InputError(
            "All ROIs are empty; a segmentation needs a voxel.", found=", ".join(empty) or "no ROI"
        )
    write_segmentation(path, segments, ct, origin, overwrite=overwrite, inputs=inputs)
    written = labelled(segments)
    return WrittenSegmentation(
        {s.name: int(np.count_nonzero(s.values)) for s in written},
        tuple(empty),
        {new.name: old.name for new, old in zip(written, segments, strict=True) if new.name != old.name},
    )


def how_to_install_seg() -> str:
    """The command that installs what writing DICOM SEG needs."""
    if sys.version_info >= NO_PYJPEGLS:
        return (
            'pip install --no-deps "highdicom>=0.26,<1" (the extra is empty on this Python: highdicom asks for '
            "pyjpegls, which has no wheel for it and is not used here)"
        )
    return 'pip install "contour-ai[seg]"; from a checkout: pip install ".[seg]"'


def _build(
    segments: Sequence[Segment], ct: CTSeries, origin: SegmentationOrigin, *, fractional: bool
) -> Dataset:
    """The data set of the file."""
    try:
        import highdicom
        from highdicom.seg import Segmentation
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Writing DICOM SEG needs packages of the extra 'seg'.",
            found=f"{error.name} is not installed",
            fix=how_to_install_seg(),
        ) from error
    used = sorted({k for s in segments for k in range(*s.box[0].indices(ct.grid.shape_kij[0])) if _any(s, k)})
    if not used:
        raise InputError(
            "All ROIs are empty; a segmentation needs a voxel.", found=", ".join(s.name for s in segments)
        )
    grid = ct.grid
    frames = _frames(segments, used, grid.shape_kij[1:], fractional=fractional)
    sources = [_source(path) for path in dict.fromkeys(ct.paths[k] for k in used)]
    row, column = grid.step_j_lps / grid.spacing_mm[2], grid.step_i_lps / grid.spacing_mm[1]
    return Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type="FRACTIONAL" if fractional else "BINARY",
        segment_descriptions=[_description(n, s, origin) for n, s in enumerate(segments, start=1)],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number="0",
        max_fractional_value=FRACTIONAL_STEPS,
        content_description=origin.description[:MAX_LABEL] or None,
        content_label=_code_string(origin.label),
        series_description=(origin.description or "contours")[:MAX_LABEL],
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=grid.spacing_mm[1:],
            slice_thickness=grid.spacing_mm[0],
            spacing_between_slices=grid.spacing_mm[0] if grid.is_regular else None,
        ),
        plane_orientation=highdicom.PlaneOrientationSequence(
            coordinate_system="PATIENT", image_orientation=[*row.tolist(), *column.tolist()]
        ),
        plane_positions=[
            highdicom.PlanePositionSequence(
                coordinate_system="PATIENT", image_position=grid.positions_lps[k].tolist()
            )
            for k in used
        ],
    )


def _source(path: Path) -> Dataset:
    """The header of a CT file, with what the standard requires even where it is empty (type 2) and some files lack."""
    header = read_header(path)
    for keyword in TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _any(segment: Segment, k: int) -> bool:
    return bool((segment.values[k - (segment.box[0].start or 0)] > 0).any())


def _frames(
    segments: Sequence[Segment], used: Sequence[int], shape_ij: Sequence[int], *, fractional: bool
) -> NDArray[np.generic]:
    """(slice, row, column, segment): only slices in which there is a voxel."""
    frames = np.zeros((len(used), *shape_ij, len(segments)), np.float32 if fractional else np.uint8)
    for n, segment in enumerate(segments):
        first = segment.box[0].start or 0
        for place, k in enumerate(used):
            if first <= k < first + len(segment.values):
                frames[place, segment.box[1], segment.box[2], n] = segment.values[k - first]
    return frames


def _description(number: int, segment: Segment, origin: SegmentationOrigin) -> SegmentDescription:
    import highdicom
    from highdicom.seg import SegmentDescription

    codes = segment_codes(segment.name)
    manual = origin.algorithm == "MANUAL"
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=codes.category,
        segmented_property_type=codes.type,
        algorithm_type=origin.algorithm,
        algorithm_identification=None
        if manual
        else highdicom.AlgorithmIdentificationSequence(
            name=origin.algorithm_name[:MAX_LABEL],
            version=origin.algorithm_version[:MAX_LABEL] or "1",
            family=_artificial_intelligence(),
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=segment.name,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
    )
    if codes.side is not None:
        side = highdicom.sr.CodedConcept.from_code(codes.side)
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def _artificial_intelligence() -> Code:
    from pydicom.sr.codedict import codes

    return codes.DCM.ArtificialIntelligence


def _code_string(text: str) -> str:
    """A label as CS: at most 16 capital letters, digits, spaces and underscores."""
    allowed = "".join(c if c.isascii() and c.isalnum() else "_" for c in text.upper())
    return allowed[:16].strip("_ ") or "CONTOURS"


def _verify(temporary: Path, path: Path, segments: Sequence[Segment], ct: CTSeries) -> None:
    from contour_ai.dicom.seg_place import masks_on_grid
    from contour_ai.dicom.seg_read import read_segmentation

    read = dict(masks_on_grid(read_segmentation(temporary), ct.grid, path, lambda note: None))
    for segment in segments:
        expected = np.zeros(ct.grid.shape_kij, bool)
        values = segment.values
        # Probabilities are stored in 255 steps: what is compared is what will be read.
        inside = (
            values if values.dtype == np.bool_ else np.rint(values * FRACTIONAL_STEPS) * 2 >= FRACTIONAL_STEPS
        )
        expected[segment.box] = inside
        found = read.get(segment.name, np.zeros_like(expected))
        wrong = int(np.count_nonzero(found != expected))
        if wrong:
            raise VerificationError(
                "The segmentation did not read back as it was meant, and was not kept.",
                where=f"{path}, {segment.name}",
                found=f"{wrong} voxels differ",
            )
