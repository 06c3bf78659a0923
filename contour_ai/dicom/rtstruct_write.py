"""Writes structure sets: contours of masks or level fields on a CT's own slices, verified before they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from contour_ai.box import Box
from contour_ai.dicom.contour_data import CoordinateText, EncodedContour, image_item, roi_contour_item
from contour_ai.dicom.patient_module import ascii_names, ascii_text, patient_elements
from contour_ai.dicom.profile import Profile, load_profile
from contour_ai.dicom.roi_names import written_names
from contour_ai.dicom.rtstruct_header import (
    Provenance,
    file_meta,
    image_reference,
    roi_items,
    structure_set_header,
)
from contour_ai.dicom.tags import ROI_CONTOUR_SEQUENCE
from contour_ai.dicom.verify import ExpectedMask, check_written, verify_structure_set
from contour_ai.errors import GeometryError, InputError
from contour_ai.files import RTSTRUCT, atomic_file
from contour_ai.polygons import HoleStyle, Polygon, stack_to_polygons
from contour_ai.structures.roi_record import RoiInfo
from contour_ai.structures.roi_record import roi_info as default_roi_info
from contour_ai.volume import Structures, roi_voxels

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries


LONGEST_EXPLICIT_BYTES = 65534
"""What fits the two length bytes of a DS element in explicit VR."""


@dataclass(frozen=True, kw_only=True)
class RoiContours:
    """The contours of one ROI: {slice number k: (N, 2) polygons in slice coordinates (i, j)}."""

    info: RoiInfo
    slices: Mapping[int, Sequence[Polygon]]
    description: str = ""
    algorithm: str = "AUTOMATIC"


@dataclass(frozen=True, kw_only=True)
class WrittenStructureSet:
    """A structure set on disk."""

    path: Path
    """The file."""
    sop_instance_uid: str
    """Its SOPInstanceUID."""
    names: Mapping[str, str] = field(default_factory=dict)
    """{ROI name asked for: name in the file}; they differ where the importer's profile does not take the name."""
    notes: tuple[str, ...] = ()
    """What was changed to fit the standard or the profile, in sentences."""


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
        info=info,
        slices=_moved(stack_to_polygons(field_kij, outline=outline, holes=holes), offset),
        description=description,
        algorithm=algorithm,
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
    return RoiContours(info=info, slices=contours, description=description, algorithm=algorithm)


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
    path: str | Path,
    rois: Iterable[RoiContours],
    ct: CTSeries,
    provenance: Provenance,
    *,
    profile: str | Path | Profile = "generic",
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    verify: Mapping[str, ExpectedMask] | Callable[[str], ExpectedMask] | None = None,
    uid_seed: str | None = None,
) -> WrittenStructureSet:
    """Writes contours on the slices of `ct`.

    Args:
        rois: may be a generator; each ROI is encoded and forgotten.
        overwrite: replace an RTSTRUCT that is there, and is not one of `inputs` or the CT.
        inputs: files that were read for this one, which are never replaced.
        verify: {ROI name: mask (k, i, j)}, or a function that gives the mask of a name. Before the file is moved
            into place it is read back and every voxel compared.
        uid_seed: makes UIDs and dates the same in every run.

    Raises:
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
        InputError: two ROIs of the same name, no ROI, or contours outside the grid.
        VerificationError: the file read back differs from `verify`; no file is left.
    """
    path, limits = Path(path), load_profile(profile)
    with atomic_file(path, overwrite=overwrite, inputs=[*inputs, *ct.paths], kind=RTSTRUCT) as temporary:
        text = CoordinateText(ct.grid, limits.decimals)
        encoded = [_EncodedRoi.of(roi, ct, text) for roi in rois]
        if not encoded:
            raise InputError("A structure set needs at least one ROI.", where=path)
        names = written_names(_unique([e.info.name for e in encoded]), limits)
        texts = [*names.values(), *(e.description for e in encoded), provenance.label, provenance.description]
        patient = patient_elements(ct.header, ct.paths[0] if ct.paths else None, texts)
        if patient.ascii_only:
            names = ascii_names(names)
            encoded = [replace(e, description=ascii_text(e.description)) for e in encoded]
        dataset = structure_set_header(
            ct, patient, provenance, label_characters=limits.label_characters, uid_seed=uid_seed
        )
        longest = max((len(data) for e in encoded for _, data, _ in e.contours), default=0)
        explicit = limits.transfer_syntax == "explicit" and longest <= LONGEST_EXPLICIT_BYTES
        _add_rois(dataset, encoded, names, ct, provenance, explicit=explicit)
        notes = (*patient.notes, *_notes(limits, names, longest))
        dataset.file_meta = file_meta(dataset, explicit=explicit)
        dcmwrite(temporary, dataset, enforce_file_format=True)
        if verify is not None:
            verify_structure_set(temporary, ct, verify, names, where=path)
            notes = (*notes, *check_written(temporary, ct, patient, profile=limits, where=path))
    return WrittenStructureSet(
        path=path, sop_instance_uid=str(dataset.SOPInstanceUID), names=names, notes=notes
    )


def write_structures(
    path: str | Path,
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
    """Writes the contoured ROIs of `structures` as a structure set, read back and compared voxel by voxel.

    Args:
        path: the RTSTRUCT file to write.
        structures: what is written: the ROIs that are present.
        ct: the CT that the structures lie on, with the same grid.
        provenance: label and description of the structure set.
        roi_info: colour and type by ROI name; None takes the TG-263 table.
        profile: limits of the importing system: a name, a YAML file, or a `Profile`.
        overwrite: replace an RTSTRUCT that is there, unless it is a file of the CT.
        outline: how far outside the voxel centres the contours run, in voxels; None takes the profile's.
        holes: `keyhole` joins holes to their outline by a channel, `separate` writes contours of their own; None takes
            the profile's.
        algorithm: ROIGenerationAlgorithm of every ROI: AUTOMATIC, SEMIAUTOMATIC or MANUAL.
        descriptions: {ROI name: ROIDescription}.
        uid_seed: text from which UIDs and dates are made, the same in every run; None for new ones.
        verify: False skips reading the file back.

    Returns:
        The path, the SOPInstanceUID, and the ROI names as they are in the file.

    Raises:
        GeometryError: the structures lie on another grid.
        InputError: no ROI is present.
        ConfigError: there is no such profile.
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
        VerificationError: the file read back has other voxels; no file is left.
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
        r = structures.index(name)
        slices = []
        for profile in profiles:
            found = np.flatnonzero(roi_voxels(profile, r))
            low, high = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
            slices.append(slice(max(low - 1, 0), min(high + 2, len(profile))))
        yield name, (slices[0], slices[1], slices[2])


def _masked(structures: Structures, name: str, box: Box) -> NDArray[np.bool_]:
    return roi_voxels(structures.bits[box], structures.index(name))


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


@dataclass(frozen=True, kw_only=True)
class _EncodedRoi:
    """A ROI with its contours as text."""

    info: RoiInfo
    description: str
    algorithm: str
    contours: tuple[EncodedContour, ...]

    @classmethod
    def of(cls, roi: RoiContours, ct: CTSeries, text: CoordinateText) -> _EncodedRoi:
        depth = ct.grid.shape_kij[0]
        if any(not 0 <= k < depth for k in roi.slices):
            raise InputError(
                "Contours lie on a slice that the CT does not have.",
                where=roi.info.name,
                found=sorted(roi.slices),
                expected=f"0 to {depth - 1}",
            )
        return cls(
            info=roi.info,
            description=roi.description,
            algorithm=roi.algorithm,
            contours=tuple(text(roi.slices)),
        )


def _add_rois(
    dataset: Dataset,
    rois: Sequence[_EncodedRoi],
    names: Mapping[str, str],
    ct: CTSeries,
    provenance: Provenance,
    *,
    explicit: bool,
) -> None:
    """Fills the three sequences of ROIs; that of the contours with bytes as they are to be in the file."""
    images = [
        image_item(image_reference(ct, k), explicit=explicit) if uid else b""
        for k, uid in enumerate(ct.sop_instance_uids)
    ]
    contours = []
    for number, roi in enumerate(rois, start=1):
        name = names[roi.info.name]
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
        dataset.StructureSetROISequence.append(item)
        dataset.RTROIObservationsSequence.append(observation)
        contours.append(roi_contour_item(number, roi.info.color, roi.contours, images, explicit=explicit))
    value = b"".join(contours)
    dataset[ROI_CONTOUR_SEQUENCE] = RawDataElement(
        Tag(ROI_CONTOUR_SEQUENCE), "SQ", len(value), value, 0, not explicit, True
    )
    # Tells pydicom that these bytes need no conversion.
    named = dataset.get("SpecificCharacterSet")
    dataset.set_original_encoding(not explicit, True, convert_encodings(named) if named else default_encoding)
