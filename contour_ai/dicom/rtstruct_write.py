"""Writes structure sets: contours of masks or level fields on a CT's own slices, verified before they are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from contour_ai.dicom.profile import Profile, load_profile
from contour_ai.dicom.roi_names import written_names
from contour_ai.dicom.rtstruct_header import (
    Provenance,
    file_meta,
    image_reference,
    roi_items,
    structure_set_header,
)
from contour_ai.dicom.verify import ExpectedMask, verify_structure_set
from contour_ai.errors import GeometryError, InputError
from contour_ai.files import atomic_file
from contour_ai.grid import Grid
from contour_ai.polygons import HoleStyle, Polygon, stack_to_polygons
from contour_ai.structures.roi_info import RoiInfo
from contour_ai.structures.roi_info import roi_info as default_roi_info
from contour_ai.volume import Structures

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

Box = tuple[slice, slice, slice]

ROUNDING_VOXELS = 0.01
"""Largest error of a written coordinate in voxels. Outlines keep at least 0.035 voxel from every centre (see
`polygons.CLEARANCE`), so no centre can change sides."""

LONGEST_EXPLICIT_BYTES = 65534
"""What fits the two length bytes of a DS element in explicit VR."""

CONTOUR_DATA = 0x30060050


@dataclass(frozen=True)
class RoiContours:
    """The contours of one ROI: {slice number k: (N, 2) polygons in slice coordinates (i, j)}."""

    info: RoiInfo
    slices: Mapping[int, Sequence[Polygon]]
    description: str = ""
    algorithm: str = "AUTOMATIC"


@dataclass(frozen=True)
class WrittenStructureSet:
    """A structure set on disk; `names` is {name asked for: name in the file}."""

    path: Path
    sop_instance_uid: str
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def contours_of_mask(
    info: RoiInfo,
    mask: NDArray[np.bool_],
    *,
    box: Box | None = None,
    outline: float = 0.5,
    holes: HoleStyle = "keyhole",
    description: str = "",
    algorithm: str = "AUTOMATIC",
) -> RoiContours:
    """Contours around a boolean mask (k, i, j).

    Args:
        box: where `mask` lies on the CT's grid; None where it covers the whole grid.
        outline, holes: see `polygons.mask_to_polygons`.
    """
    inner, field_kij = cropped(np.asarray(mask, dtype=bool))
    own, outer = _starts(inner), _starts(box)
    offset = own[0] + outer[0], own[1] + outer[1], own[2] + outer[2]
    return RoiContours(
        info,
        _moved(stack_to_polygons(field_kij, outline=outline, holes=holes), offset),
        description,
        algorithm,
    )


def contours_of_level(
    info: RoiInfo,
    level: NDArray[np.floating],
    box: Box,
    *,
    holes: HoleStyle = "keyhole",
    description: str = "",
    algorithm: str = "AUTOMATIC",
) -> RoiContours:
    """Contours along the zero level of a field (k, i, j), inside where it is above zero; `box` places it on the CT."""
    contours = _moved(stack_to_polygons(np.asarray(level), holes=holes), _starts(box))
    return RoiContours(info, contours, description, algorithm)


def cropped(mask: NDArray[np.bool_]) -> tuple[Box, NDArray[np.bool_]]:
    """(box, mask[box]): all True voxels of a mask (k, i, j), and one more all around where the image has one.

    The one around lets outlines run outside the box, so that only the border of the image clamps them.
    """
    in_k = np.flatnonzero(np.any(mask, axis=(1, 2)))
    ks = slice(int(in_k[0]), int(in_k[-1]) + 1) if len(in_k) else slice(0, 0)
    flat = np.any(mask[ks], axis=0)
    sides = []
    for axis, n in ((1, mask.shape[1]), (0, mask.shape[2])):
        found = np.flatnonzero(np.any(flat, axis=axis))
        sides.append(
            slice(max(int(found[0]) - 1, 0), min(int(found[-1]) + 2, n)) if len(found) else slice(0, 0)
        )
    box = ks, sides[0], sides[1]
    return box, mask[box].copy()


def write_structure_set(
    path: Path,
    rois: Iterable[RoiContours],
    ct: CTSeries,
    provenance: Provenance,
    *,
    profile: str | Path | Profile = "generic",
    overwrite: bool = False,
    verify: Mapping[str, ExpectedMask] | Callable[[str], ExpectedMask] | None = None,
    uid_seed: str | None = None,
) -> WrittenStructureSet:
    """Writes contours on the slices of `ct`.

    Args:
        rois: may be a generator; each ROI is encoded and forgotten.
        verify: {ROI name: mask (k, i, j)}, or a function that gives the mask of a name. Before the file is moved
            into place it is read back and every voxel compared.
        uid_seed: makes UIDs and dates the same in every run.

    Raises:
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
        InputError: two ROIs of the same name, no ROI, or contours outside the grid.
        VerificationError: the file read back differs from `verify`; no file is left.
    """
    path, limits = Path(path), load_profile(profile)
    with atomic_file(path, overwrite=overwrite) as temporary:
        encoded = [_EncodedRoi.of(roi, ct, limits) for roi in rois]
        if not encoded:
            raise InputError("A structure set needs at least one ROI.", where=path)
        names = written_names(_unique([e.info.name for e in encoded]), limits)
        texts = [*names.values(), *(e.description for e in encoded)]
        dataset = structure_set_header(
            ct, provenance, label_characters=limits.label_characters, uid_seed=uid_seed, texts=texts
        )
        images = [
            DicomSequence([image_reference(ct, k)]) if u else None for k, u in enumerate(ct.sop_instance_uids)
        ]
        for number, roi in enumerate(encoded, start=1):
            _add_roi(dataset, number, roi, names[roi.info.name], provenance, images)
        longest = max((len(data) for e in encoded for _, data, _ in e.contours), default=0)
        explicit = limits.transfer_syntax == "explicit" and longest <= LONGEST_EXPLICIT_BYTES
        notes = _notes(limits, names, longest)
        dataset.file_meta = file_meta(dataset, explicit=explicit)
        dcmwrite(temporary, dataset, enforce_file_format=True)
        if verify is not None:
            verify_structure_set(temporary, ct, verify, names, where=path)
    return WrittenStructureSet(path, str(dataset.SOPInstanceUID), names, notes)


def write_structures(
    path: Path,
    structures: Structures,
    ct: CTSeries,
    provenance: Provenance,
    *,
    roi_info: Callable[[str], RoiInfo] | Mapping[str, RoiInfo] | None = None,
    profile: str | Path | Profile = "generic",
    overwrite: bool = False,
    outline: float | None = None,
    holes: HoleStyle | None = None,
    algorithm: str = "AUTOMATIC",
    descriptions: Mapping[str, str] | None = None,
    uid_seed: str | None = None,
    verify: bool = True,
) -> WrittenStructureSet:
    """Writes the contoured ROIs of `structures` (on the grid of `ct`), read back and compared voxel by voxel.

    Args:
        roi_info: colour and type by ROI name; None takes the TG-263 table.
        outline, holes: None takes the profile's.

    Raises:
        GeometryError: the structures lie on another grid; and what `write_structure_set` raises.
    """
    if not structures.grid.matches(ct.grid):
        raise GeometryError(
            "The structures lie on another grid than the CT.",
            where=path,
            found=structures.grid,
            expected=ct.grid,
        )
    limits = load_profile(profile)
    info_of = _info_of(roi_info)
    boxes = dict(_boxes(structures))

    def contours() -> Iterator[RoiContours]:
        for name, box in boxes.items():
            yield contours_of_mask(
                info_of(name),
                _masked(structures, name, box),
                box=box,
                outline=limits.outline if outline is None else outline,
                holes=limits.holes if holes is None else holes,
                description=(descriptions or {}).get(name, ""),
                algorithm=algorithm,
            )

    return write_structure_set(
        path,
        contours(),
        ct,
        provenance,
        profile=limits,
        overwrite=overwrite,
        verify=(lambda name: (boxes[name], _masked(structures, name, boxes[name]))) if verify else None,
        uid_seed=uid_seed,
    )


def _info_of(roi_info: Callable[[str], RoiInfo] | Mapping[str, RoiInfo] | None) -> Callable[[str], RoiInfo]:
    if roi_info is None:
        return default_roi_info
    return roi_info.__getitem__ if isinstance(roi_info, Mapping) else roi_info


def _boxes(structures: Structures) -> Iterator[tuple[str, Box]]:
    """(name, box with all its voxels and one more all around) of every contoured ROI, in three passes over all bits."""
    reduce = np.bitwise_or.reduce
    along_k = reduce(reduce(structures.bits, axis=2), axis=1)
    flat = reduce(structures.bits, axis=0)
    profiles = (along_k, reduce(flat, axis=1), reduce(flat, axis=0))
    for name in structures.contoured():
        bit = structures.bits.dtype.type(1 << structures.index(name))
        slices = []
        for profile in profiles:
            found = np.flatnonzero(profile & bit)
            low, high = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
            slices.append(slice(max(low - 1, 0), min(high + 2, len(profile))))
        yield name, (slices[0], slices[1], slices[2])


def _masked(structures: Structures, name: str, box: Box) -> NDArray[np.bool_]:
    return (structures.bits[box] & structures.bits.dtype.type(1 << structures.index(name))) != 0


def _starts(box: Box | None) -> tuple[int, int, int]:
    return (0, 0, 0) if box is None else (box[0].start or 0, box[1].start or 0, box[2].start or 0)


def _moved(slices: Mapping[int, Sequence[Polygon]], offset: tuple[int, int, int]) -> dict[int, list[Polygon]]:
    return {k + offset[0]: [p + offset[1:] for p in polygons] for k, polygons in slices.items()}


def _unique(names: list[str]) -> list[str]:
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise InputError("Two ROIs have the same name.", found=", ".join(repeated))
    return names


def _notes(profile: Profile, names: Mapping[str, str], longest: int) -> tuple[str, ...]:
    notes = [f"ROI {asked} is written as {name}" for asked, name in names.items() if asked != name]
    if profile.transfer_syntax == "explicit" and longest > LONGEST_EXPLICIT_BYTES:
        notes.append(f"written in implicit VR: a contour of {longest} bytes does not fit explicit VR")
    return tuple(notes)


# -- encoding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _EncodedRoi:
    """Contours as text: (slice, ContourData, number of points)."""

    info: RoiInfo
    description: str
    algorithm: str
    contours: tuple[tuple[int, str, int], ...]

    @classmethod
    def of(cls, roi: RoiContours, ct: CTSeries, profile: Profile) -> _EncodedRoi:
        depth = ct.grid.shape_kij[0]
        if any(not 0 <= k < depth for k in roi.slices):
            raise InputError(
                "Contours lie on a slice that the CT does not have.",
                where=roi.info.name,
                found=sorted(roi.slices),
                expected=f"0 to {depth - 1}",
            )
        write = _Coordinates(ct.grid, profile.decimals)
        contours = tuple((k, write(k, p), len(p)) for k in sorted(roi.slices) for p in roi.slices[k])
        return cls(roi.info, roi.description, roi.algorithm, contours)


class _Coordinates:
    """Slice coordinates as the text of ContourData: x\\y\\z of every point in mm, no digit more than needed."""

    def __init__(self, grid: Grid, decimals: int | None) -> None:
        self.grid = grid
        steps = np.abs(np.array([grid.step_i_lps, grid.step_j_lps]))
        self.constant = (steps < 1e-6 * steps.max()).all(axis=0)
        smallest = min(grid.spacing_mm[1:])
        directions = max(1, int((steps > 1e-6 * steps.max()).sum(axis=1).max()))
        needed = math.ceil(-math.log10(2 * ROUNDING_VOXELS * smallest / math.sqrt(directions)))
        # Where no component is the same all over a slice, rounding also moves points out of their plane: 3 decimals.
        needed = max(needed, 2 if self.constant.any() else 3)
        self.decimals = needed if decimals is None else max(decimals, needed)
        self.text = _TextOfTicks(self.decimals)
        # Half a unit of the last decimal: what lies on the image's edge stays inside it when rounded.
        self.inset = 0.5 * 10**-self.decimals * math.sqrt(directions) / smallest
        self.last = np.array(grid.shape_kij[1:]) - 0.5

    def __call__(self, k: int, polygon: Polygon) -> str:
        if polygon.min() >= -0.5 and (polygon <= self.last).all():
            polygon = np.clip(polygon, self.inset - 0.5, self.last - self.inset)
        origin = self.grid.positions_lps[k]
        points = origin + polygon[:, :1] * self.grid.step_i_lps + polygon[:, 1:] * self.grid.step_j_lps
        ticks = np.rint(points * 10**self.decimals).astype(np.int64)
        parts: list[str] = [""] * (3 * len(points))
        for c in range(3):
            if self.constant[c]:
                parts[c::3] = [_shortest(float(origin[c]))] * len(points)
            else:
                parts[c::3] = map(self.text.__getitem__, ticks[:, c].tolist())
        return "\\".join(parts)


class _TextOfTicks(dict[int, str]):
    """The text of `tick` / 10 ** decimals, worked out once for each: contours meet the same columns again and again."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self.decimals = decimals

    def __missing__(self, tick: int) -> str:
        whole, part = divmod(abs(tick), 10**self.decimals)
        text = f"{whole}.{part:0{self.decimals}d}".rstrip("0").rstrip(".") if self.decimals else str(whole)
        self[tick] = text if tick >= 0 else "-" + text
        return self[tick]


def _shortest(value: float) -> str:
    """A slice's own coordinate with all the digits a DS of 16 characters has room for, to the nanometre."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _add_roi(
    dataset: Dataset,
    number: int,
    roi: _EncodedRoi,
    name: str,
    provenance: Provenance,
    images: Sequence[DicomSequence | None],
) -> None:
    """`images` refer to the CT slice k, None where it has no UID."""
    described = [roi.description] if roi.description else []
    if name != roi.info.name:
        described.append(f"ROI {roi.info.name}")
    described.append(provenance.software)
    item, observation = roi_items(
        number,
        name,
        roi.info,
        frame_of_reference_uid=str(dataset.FrameOfReferenceUID),
        algorithm=roi.algorithm,
        description="; ".join(described),
    )
    contour = Dataset()
    contour.ROIDisplayColor = list(roi.info.color)
    if roi.contours:
        contour.ContourSequence = DicomSequence(
            _contour_item(n, data, points, images[k])
            for n, (k, data, points) in enumerate(roi.contours, start=1)
        )
    contour.ReferencedROINumber = number
    dataset.StructureSetROISequence.append(item)
    dataset.ROIContourSequence.append(contour)
    dataset.RTROIObservationsSequence.append(observation)


def _contour_item(number: int, data: str, points: int, images: DicomSequence | None) -> Dataset:
    # Elements as they are to be written: pydicom's conversions would take longer than all the rest.
    item = Dataset()
    for tag, vr, value in (
        (0x30060016, "SQ", images),
        (0x30060042, "CS", "CLOSED_PLANAR"),
        (0x30060046, "IS", str(points)),
        (0x30060048, "IS", str(number)),
        (CONTOUR_DATA, "DS", data),
    ):
        if value is not None:  # without an image UID the plane alone says where the contour belongs
            item[tag] = DataElement(tag, vr, value, already_converted=True)
    return item
