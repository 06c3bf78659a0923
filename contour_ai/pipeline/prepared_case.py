"""One patient of an archive on the model grid, with what is measured of every ROI: from the cache, or computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contour_ai.bundle.seen_series import slice_digests
from contour_ai.dicom.ct import CTSeries, read_ct, refuse_missing_slices
from contour_ai.dicom.notes import ACQUISITION, OTHER_FRAME, SLICE_GAP, code_of
from contour_ai.dicom.placing import PlacedRoi
from contour_ai.dicom.rtstruct_read import iter_placed
from contour_ai.errors import InputError
from contour_ai.pipeline.archive import PatientSource
from contour_ai.pipeline.relevant_series import RelevantSeries
from contour_ai.polygons import stack_in_box
from contour_ai.preprocess import PreprocessSettings, body_mask, prepare, resample_mask
from contour_ai.training.cache import (
    Case,
    Digests,
    Image,
    case_key,
    content_hash,
    load_case,
    load_image,
    save_case,
    save_image,
)
from contour_ai.training.roi_facts import BodySlices, RoiFacts, measure_roi
from contour_ai.volume import bits_dtype, set_roi_voxels

IN_FACTS = (OTHER_FRAME, SLICE_GAP)
"""Kinds of notes on a ROI that its facts hold, and the check of the archive judges."""


@dataclass(frozen=True, kw_only=True)
class PatientCache:
    """The cache, and what is known of files and archives beforehand.

    Args:
        folder: of the cache.
        digests: hashes of series.
        beside: which other CT series matter to a patient.
        renewed: labels of patients that the cache had, but read without a look at those series; it is added to.
    """

    folder: Path
    digests: Digests
    beside: RelevantSeries
    renewed: set[str] = field(default_factory=set)


class PreparedCase(NamedTuple):
    """A patient on the model grid, and the key under which the cache has it."""

    key: str
    case: Case


def one_case(
    patient: PatientSource, rois: tuple[str, ...], settings: PreprocessSettings, cache: PatientCache
) -> PreparedCase:
    """One patient, from the cache or computed.

    Raises:
        InputError: its CT or structure set cannot be used.
    """
    here = {roi: patient.rois[roi] for roi in rois if roi in patient.rois}
    # What merged sets do not hold of these ROIs does not matter.
    used = sorted({patient.drawn_in.get(roi, 0) for roi in here}) or [0]
    paths = [patient.files.structure_sets[n].path for n in used] if patient.files.structure_sets else []
    try:
        series: dict[str, object] = {"settings": _of_image(settings)}
        if patient.files.ct.acquisition is not None:
            series["acquisition"] = patient.files.ct.acquisition
        image_key = case_key(cache.digests.of_series(patient.files.ct.paths), series)
        drawn = content_hash(paths)
    except OSError as error:
        raise InputError("A file cannot be read.", where=error.filename, found=error.strerror) from error
    what: dict[str, object] = {"image": image_key, "rois": rois, "names": here, "label": patient.label}
    if len(used) > 1:
        what["sets"] = {roi: used.index(patient.drawn_in.get(roi, 0)) for roi in here}
    alone = key = case_key(drawn, what)
    beside = cache.beside.digest(patient)
    if beside:  # read again: contours may lie on them, and the structure set would be refused
        key = case_key(drawn, {**what, "beside": beside})
    cached = load_case(cache.folder, key)
    if cached is not None:
        return PreparedCase(key, cached)
    if beside and load_case(cache.folder, alone) is not None:
        cache.renewed.add(patient.label)
    ct, image = _image(patient, settings, cache.folder, image_key)
    named = [{roi: name for roi, name in here.items() if patient.drawn_in.get(roi, 0) == n} for n in used]
    case = _case(patient.label, dict(zip(paths, named, strict=False)), rois, ct, image)
    return PreparedCase(key, save_case(cache.folder, key, case, image_key))


def _of_image(settings: PreprocessSettings) -> dict[str, object]:
    """The settings that change what is cached: windows are applied later."""
    return {key: value for key, value in settings.to_dict().items() if key != "windows_hu"}


def _image(
    patient: PatientSource, settings: PreprocessSettings, cache: Path, key: str
) -> tuple[CTSeries, Image]:
    """The CT, and what the cache holds of it."""
    image = load_image(cache, key)
    ct = read_ct(patient.files.ct)  # also where the image is there already: the density of its ROIs is not
    refuse_missing_slices(ct)
    if image is None:
        assert ct.volume is not None
        body = body_mask(ct.volume, settings.body_threshold_hu)
        prepared = prepare(ct.volume, settings, body=body)
        image = save_image(cache, key, prepared, body, slice_digests(ct.volume.hu))
    return ct, image


def _case(
    label: str,
    drawn: Mapping[Path, Mapping[str, str]],
    rois: tuple[str, ...],
    ct: CTSeries,
    image: Image,
) -> Case:
    """The ROIs of a patient on the model grid, and what was measured of them on the CT: one ROI in memory at a time.

    Args:
        drawn: {structure set: {ROI: its name there}}.
    """
    notes = [note for note in ct.notes if code_of(note) == ACQUISITION]
    bits = np.zeros(image.grid.shape_kij, bits_dtype(len(rois)))
    presence: dict[str, bool] = {}
    facts: dict[str, RoiFacts] = {}
    body = BodySlices.of(image.body, ct.grid)
    for path, names in drawn.items():
        placed = iter_placed(path, ct, tuple(names.values()), on_note=notes.append)
        for roi, (_, found) in zip(names, placed, strict=True):
            presence[roi] = found is not None and bool(found.slices)
            facts[roi] = _add_roi(bits, rois.index(roi), found, ct, image, body)
    spacing = tuple(round(mm, 6) for mm in image.grid.spacing_mm)
    case = Case(
        patient_id=label,
        image=image.hu,
        labels=bits,
        rois=rois,
        presence=tuple(presence.get(roi, False) for roi in rois),
        spacing_mm_kij=(spacing[0], spacing[1], spacing[2]),
        notes=tuple(note for note in notes if code_of(note) not in IN_FACTS),
        facts=facts,
    )
    return case.without_empty()


def _add_roi(
    bits: np.ndarray, r: int, placed: PlacedRoi | None, ct: CTSeries, image: Image, body: BodySlices
) -> RoiFacts:
    """Sets bit `r` where a ROI lies on the model grid, and measures it on the CT."""
    if placed is None:
        return RoiFacts()
    if placed.elsewhere:
        return RoiFacts(elsewhere=placed.elsewhere)
    inside = stack_in_box(placed.slices, ct.grid.shape_kij)
    if inside is not None:
        onto = resample_mask(inside[1], inside[0], ct.grid, image.grid)
        if onto is not None:
            set_roi_voxels(bits[onto[0]], r, onto[1])
    hu = None if ct.volume is None else ct.volume.hu
    return measure_roi(inside, body, hu=hu, contours=placed.closed, unused_contours=placed.unused)
