"""Makes the page of suspicious contours of an archive: figures of all patients, reasons, pictures and positions."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contour_ai.pipeline.archive import PatientSource, Sources
from contour_ai.pipeline.cases import PreparedCases
from contour_ai.quality.figures import fit_places, offset_mm
from contour_ai.render.drawing import WINDOW_HU, draw_letters
from contour_ai.report.curation import (
    CurationContour,
    CurationPage,
    CurationPatient,
    PatientRemark,
    Suspicion,
    write_curation_page,
)
from contour_ai.training.archive_check import FEWEST_TO_COMPARE, OUTLIER, ArchiveCheck, far, robust_deviations
from contour_ai.training.cache import Case
from contour_ai.training.roi_facts import RoiFacts
from contour_ai.volume import roi_voxels

MOST_PICTURES = 400
"""Largest number of pictures in the page, about 25 kB each; further contours have none."""

CURATION_PANEL_PX = 220
LEAST_VIEW_MM = 90.0
"""Smallest width and height of a picture; that of a ROI larger than this is `VIEW` times its extent."""
VIEW = 1.5
OUTLINE_RGB = (255, 190, 60)
LETTERS = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))
"""Patient directions at the left, right, top and bottom edge of the axial, coronal and sagittal panel."""

LEAST_SPREADS = (0.0, 5.0, 2.0, 3.0, 3.0)
"""For each of `report.curation.FIGURES` the smallest standard deviation to assume: healthy patients differ by as much,
even where those of one archive are more alike."""

REASONS = (
    "",  # the check itself reports volumes
    "its mean density is {value:.0f} HU, in most patients {usual:.0f} HU ({far})",
    "it is {value:.0f} mm long, in most patients {usual:.0f} mm ({far})",
    "it lies {size:.0f} mm {inferior_or_superior} of the position expected from the other ROIs ({far})",
    "its centre lies {size:.0f} mm {side} of the middle of the body, in most patients {usual_size:.0f} mm {usual_side} "
    "({far})",
)

Values = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class _Outlier:
    deviation: float
    reason: str


def write_page(
    path: Path, data_dir: Path, sources: Sources, prepared: PreparedCases, check: ArchiveCheck
) -> CurationPage:
    """Writes the page of an archive that was checked.

    Raises:
        OutputError: it cannot be written.
    """
    page = curation_page(data_dir, sources, prepared, check)
    write_curation_page(path, page)
    return page


def curation_page(
    data_dir: Path, sources: Sources, prepared: PreparedCases, check: ArchiveCheck
) -> CurationPage:
    """The content of the page: contours that the check leaves out first, then the others, largest deviation first."""
    cases = dict(sorted(prepared.cases.items()))
    values = _values(cases)
    outliers = _outliers(cases, values)
    labels = list(dict.fromkeys((*cases, *(f.patient for f in check.findings))))
    rois = sorted(
        {roi for of_patient in values.values() for roi in of_patient} | {f.roi for f in check.findings} - {""}
    )
    places = _places(sources)
    numbers = {label: n for n, label in enumerate(labels)}
    patients = [
        CurationPatient(
            label=label,
            place=places.get(label, ""),
            findings=tuple(
                PatientRemark(f.reason, f.left_out)
                for f in check.findings
                if f.patient == label and not f.roi
            ),
        )
        for label in labels
    ]
    contours = [
        CurationContour(patient=numbers[label], roi=rois.index(roi), values=figures)
        for label, of_patient in values.items()
        for roi, figures in of_patient.items()
    ]
    accepted = {(source.label, roi) for source in sources.patients for roi in source.accepted}
    suspicions = _suspicions(cases, check, outliers, numbers, rois, accepted)
    left_out = sum(s.left_out for s in suspicions)
    return CurationPage(
        title="Contours to look at",
        subtitle=f"{data_dir.name}: {len(cases)} patients, {len(contours)} contours of {len(rois)} ROIs; "
        f"{left_out} are left out as they stand, {len(suspicions) - left_out} more are unusual",
        patients=patients,
        rois=rois,
        contours=contours,
        suspicions=suspicions,
    )


def _suspicions(
    cases: Mapping[str, Case],
    check: ArchiveCheck,
    outliers: Mapping[tuple[str, str], Sequence[_Outlier]],
    numbers: Mapping[str, int],
    rois: Sequence[str],
    accepted: set[tuple[str, str]],
) -> list[Suspicion]:
    reasons: dict[tuple[str, str], list[str]] = {}
    left_out = {(f.patient, f.roi) for f in check.left_out if f.roi}
    for finding in check.findings:
        if finding.roi:
            reasons.setdefault((finding.patient, finding.roi), []).append(finding.reason)
    for place, found in outliers.items():
        if more := [o.reason for o in found if o.reason]:
            reasons.setdefault(place, []).extend(more)
    for place in accepted:
        reasons.pop(place, None)
    farthest = {place: max(abs(o.deviation) for o in found) for place, found in outliers.items()}
    order = sorted(reasons, key=lambda place: (place not in left_out, -farthest.get(place, 0.0), place))
    return [
        Suspicion(
            patient=numbers[label],
            roi=rois.index(roi),
            reasons=tuple(reasons[label, roi]),
            left_out=(label, roi) in left_out,
            picture=picture(cases[label], roi) if n < MOST_PICTURES and label in cases else None,
        )
        for n, (label, roi) in enumerate(order)
    ]


# -- figures -------------------------------------------------------------------------------------------------------


def _values(cases: Mapping[str, Case]) -> dict[str, dict[str, Values]]:
    """{patient: {ROI: figures in the order of `report.curation.FIGURES`}} of all contours on the CT."""
    centres = {
        label: {roi: fact.centre_lps for roi, fact in case.facts.items() if fact.centre_lps is not None}
        for label, case in cases.items()
    }
    expected = fit_places(list(centres.values()))
    return {
        label: {
            roi: _values_of(fact, offset_mm(roi, centres[label], expected))
            for roi, fact in case.facts.items()
            if fact.slices
        }
        for label, case in cases.items()
    }


def _values_of(fact: RoiFacts, offset: NDArray[np.float64] | None) -> Values:
    superior = None if offset is None else float(offset[2])
    return fact.volume_cm3, fact.mean_hu, fact.extent_mm or None, superior, fact.left_mm


def _outliers(
    cases: Mapping[str, Case], values: Mapping[str, Mapping[str, Values]]
) -> dict[tuple[str, str], list[_Outlier]]:
    """{(patient, ROI): figures far from those of other patients}; volumes have no reason here, only the deviation."""
    found: dict[tuple[str, str], list[_Outlier]] = {}
    for roi in sorted({roi for of_patient in values.values() for roi in of_patient}):
        for figure in range(len(REASONS)):
            here = {
                label: value
                for label, of_patient in values.items()
                if roi in of_patient and (value := of_patient[roi][figure]) is not None
            }
            if len(here) < FEWEST_TO_COMPARE:
                continue
            numbers = np.array(list(here.values()))
            numbers = np.cbrt(numbers) if figure == 0 else numbers
            usual = float(np.median(list(here.values())))
            deviations = robust_deviations(numbers, numbers, LEAST_SPREADS[figure])
            for (label, value), deviation in zip(here.items(), deviations.tolist(), strict=True):
                fact = cases[label].facts[roi]
                # A ROI that the end of the scan cuts off is shorter and has another centre without being wrong.
                cut = fact.cut and (figure == 3 or (figure in (0, 2) and deviation < 0))
                if abs(deviation) > OUTLIER and not cut:
                    reason = _reason(figure, value, usual, deviation)
                    found.setdefault((label, roi), []).append(_Outlier(deviation=deviation, reason=reason))
    return found


def _reason(figure: int, value: float, usual: float, deviation: float) -> str:
    return REASONS[figure].format(
        value=value,
        usual=usual,
        size=abs(value),
        usual_size=abs(usual),
        inferior_or_superior="superior" if value > 0 else "inferior",
        side="left" if value > 0 else "right",
        usual_side="left" if usual > 0 else "right",
        far=far(deviation),
    )


def _places(sources: Sources) -> dict[str, str]:
    """{label: patient ID, or a folder that holds this patient only}; patients that have neither are left out."""
    every: Sequence[PatientSource] = (*sources.patients, *sources.excluded)
    times = Counter(place for source in every for place in source.places)
    found = {}
    for source in every:
        if source.label == source.patient_id and source.files.ct.patient_id:
            found[source.label] = source.patient_id
            continue
        own = sorted((place for place in source.places if times[place] == 1), key=lambda p: (len(p), p))
        if own:
            found[source.label] = own[0]
    return found


# -- pictures ------------------------------------------------------------------------------------------------------


def picture(case: Case, roi: str) -> bytes | None:
    """JPEG of the axial, coronal and sagittal plane in which most of a ROI lies; None where it has no voxel."""
    if roi not in case.rois:
        return None
    mask, hu = roi_voxels(np.asarray(case.bits), case.rois.index(roi)), case.hu
    counts = [np.count_nonzero(mask, axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
    if not counts[0].any():
        return None
    extents = [np.flatnonzero(n) for n in counts]
    sizes_mm = [(e[-1] - e[0] + 1) * mm for e, mm in zip(extents, case.spacing_mm_kij, strict=True)]
    view_mm = max(LEAST_VIEW_MM, VIEW * max(sizes_mm))
    centre = [(e[0] + e[-1]) / 2 for e in extents]
    strip = Image.new("RGB", (3 * CURATION_PANEL_PX + 8, CURATION_PANEL_PX))
    for axis, letters in enumerate(LETTERS):
        index = (slice(None),) * axis + (int(counts[axis].argmax()),)
        rows, columns = (a for a in range(3) if a != axis)
        image, inside = hu[index], mask[index]
        middle = [centre[rows], centre[columns]]
        if rows == 0:  # the first axis points to the head, which is at the top of the picture
            image, inside = image[::-1], inside[::-1]
            middle[0] = image.shape[0] - 1 - middle[0]
        spacing = case.spacing_mm_kij[rows], case.spacing_mm_kij[columns]
        panel = _panel(image, inside, (middle[0], middle[1]), spacing, view_mm)
        draw_letters(panel, letters, 11)
        strip.paste(panel, (axis * (CURATION_PANEL_PX + 4), 0))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=82)
    return file.getvalue()


def _panel(
    hu: NDArray[np.generic],
    mask: NDArray[np.bool_],
    centre: tuple[float, float],
    spacing_mm: tuple[float, float],
    view_mm: float,
) -> Image.Image:
    """The part of a plane around `centre` as a picture, with the outline of the mask."""
    low, high = WINDOW_HU
    grey = ((np.asarray(hu, np.float32) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    inside = mask.astype(np.uint8) * 255
    half = [view_mm / 2 / mm for mm in spacing_mm]
    box = (
        centre[1] + 0.5 - half[1],
        centre[0] + 0.5 - half[0],
        centre[1] + 0.5 + half[1],
        centre[0] + 0.5 + half[0],
    )
    size, how = (CURATION_PANEL_PX, CURATION_PANEL_PX), Image.Transform.EXTENT
    image = Image.fromarray(grey).transform(size, how, box, Image.Resampling.BICUBIC).convert("RGB")
    fine = np.asarray(Image.fromarray(inside).transform(size, how, box, Image.Resampling.BILINEAR)) > 127
    inner = fine.copy()
    inner[1:] &= fine[:-1]
    inner[:-1] &= fine[1:]
    inner[:, 1:] &= fine[:, :-1]
    inner[:, :-1] &= fine[:, 1:]
    edge = fine & ~inner
    edge[1:] |= edge[:-1]
    edge[:, 1:] |= edge[:, :-1]
    image.paste(OUTLINE_RGB, (0, 0), Image.fromarray(edge.astype(np.uint8) * 255))
    return image
