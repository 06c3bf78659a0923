"""Reference ranges: robust ranges of a model's training patients, in its bundle, compared with every prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.quality.extents import PatientEnds, RoiExtent, fitted_extents
from contour_ai.quality.figures import (
    InputFigures,
    PatientFigures,
    RoiFigures,
    Triple,
    fit_places,
    offset_mm,
)
from contour_ai.structures.names import split_side

Float = NDArray[np.float64]
Range = tuple[float, float, float]
"""Lowest usual value, median, highest usual value."""

FEWEST_FOR_RANGES = 5
"""Fewer give no reference range."""

FIGURES_WIDER = 1.0
"""Limits lie this much farther from the median than the 5 % and the 95 % of the patients: twice as far, which is 3.3
standard deviations of normally spread figures. Of 170 head-and-neck patients, in five folds, at least one of the 13
figures of a ROI was outside in 22 % of the clinical contours with 0.5, in 12 % with 0.75, in 8 % with 1.0."""

FEW_PATIENTS_WIDER = 4.0
"""Divided by their number, a further widening: the percentiles of few patients lie too near to the median."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How one figure is compared.

    Args:
        code: of the flag.
        words: what it is; of a place, what it is measured from.
        ratio: limits are factors of the median, else distances from it.
        least: no limit lies nearer to the median than this (a share where `ratio`): differences below mean nothing.
    """

    code: str
    words: str
    unit: str
    ratio: bool
    least: float
    low: bool = True
    high: bool = True
    directions: tuple[str, str] | None = None
    """Of a place: words for positive and for negative values."""
    wider: float = FIGURES_WIDER

    @property
    def share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return not self.unit


LEFT, BEHIND, ABOVE = ("left of", "right of"), ("behind", "in front of"), ("above", "below")
BODY_AXIS, OTHER_ROIS = "the body's axis", "the position expected from the other ROIs"

ROI_FIGURES: Mapping[str, Figure] = {
    "volume_cm3": Figure(code="volume", words="the volume", unit="cm3", ratio=True, least=0.2),
    "length_mm": Figure(code="length", words="the extent along the body", unit="mm", ratio=True, least=0.15),
    "mean_hu": Figure(code="mean_hu", words="the mean density", unit="HU", ratio=False, least=15),
    "sd_hu": Figure(code="hu_spread", words="the spread of the density", unit="HU", ratio=True, least=0.25),
    "left_mm": Figure(
        code="position_in_body", words=BODY_AXIS, unit="mm", ratio=False, least=5, directions=LEFT
    ),
    "posterior_mm": Figure(
        code="position_in_body", words=BODY_AXIS, unit="mm", ratio=False, least=5, directions=BEHIND
    ),
    "body_area_cm2": Figure(
        code="position_in_body",
        words="the body's cross-section where it lies",
        unit="cm2",
        ratio=True,
        least=0.15,
    ),
    "bottom_share": Figure(
        code="cut_off",
        words="the lowest slice's share of the largest area",
        unit="",
        ratio=False,
        least=0.05,
        low=False,
    ),
    "top_share": Figure(
        code="cut_off",
        words="the highest slice's share of the largest area",
        unit="",
        ratio=False,
        least=0.05,
        low=False,
    ),
    "offset_superior_mm": Figure(
        code="position_to_rois", words=OTHER_ROIS, unit="mm", ratio=False, least=5, directions=ABOVE
    ),
    "offset_posterior_mm": Figure(
        code="position_to_rois", words=OTHER_ROIS, unit="mm", ratio=False, least=5, directions=BEHIND
    ),
    "offset_left_mm": Figure(
        code="position_to_rois", words=OTHER_ROIS, unit="mm", ratio=False, least=5, directions=LEFT
    ),
    "wrong_side_share": Figure(
        code="wrong_side",
        words="the share on the other side of the body's axis",
        unit="",
        ratio=False,
        least=0.05,
        low=False,
    ),
}
"""What is compared of each ROI."""

IMAGE_FIGURES: Mapping[str, Figure] = {
    "slice_mm": Figure(
        code="input_slice_distance", words="the slice distance", unit="mm", ratio=True, least=0.2, low=False
    ),
    "pixel_mm": Figure(
        code="input_pixel_size", words="the pixel size", unit="mm", ratio=True, least=0.2, low=False
    ),
    "field_of_view_mm": Figure(
        code="input_field_of_view", words="the image's width", unit="mm", ratio=True, least=0.15, high=False
    ),
    "body_length_mm": Figure(
        code="input_scan_length",
        words="the length of the body that is seen",
        unit="mm",
        ratio=True,
        least=0.15,
    ),
    "body_area_cm2": Figure(
        code="input_body_size", words="the body's cross-section", unit="cm2", ratio=True, least=0.25
    ),
    "soft_tissue_hu": Figure(
        code="input_soft_tissue", words="the density of soft tissue", unit="HU", ratio=False, least=15
    ),
    "air_share": Figure(
        code="input_air", words="the share of air in the body", unit="", ratio=False, least=0.03
    ),
    "bone_share": Figure(
        code="input_bone", words="the share of bone in the body", unit="", ratio=False, least=0.03
    ),
    "metal_cm3": Figure(
        code="input_metal", words="what is as dense as metal", unit="cm3", ratio=False, least=1.0, low=False
    ),
}
"""What is compared of each image."""

OFFSETS = ("offset_superior_mm", "offset_posterior_mm", "offset_left_mm")


@dataclass(frozen=True, kw_only=True)
class RoiRanges:
    """Reference ranges of one ROI."""

    patients: int
    figures: Mapping[str, Range] = field(default_factory=dict)
    """Keys of `ROI_FIGURES`; those that are not known are not compared."""
    place_mm: Triple | None = None
    """Superior, posterior, left in a frame that all ROIs of the model share."""
    parts: int = 1
    """Connected parts, at most."""
    hole_cm3: float = 0.0
    """Enclosed volume, at most."""
    missing_slices: int = 0
    """Empty slices between its ends, at most."""
    reaches_end: float = 0.0
    """Share of the patients in whom it goes to the end of the scan."""
    absent_share: float | None = None
    """Share of the training patients in whom it is certainly not there (beyond the scan, or removed); None for none."""
    flat_share: float | None = None
    """Largest share of the surface with an uncertain boundary in patients held back; None where not measured."""

    extent: RoiExtent | None = None
    """Where it ends along the body; None where too few patients show it."""

    def __post_init__(self) -> None:
        _check(self.figures, ROI_FIGURES, "a ROI")


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Reference ranges of a model: limits of figures, from the contours of its training patients."""

    patients: int
    image: Mapping[str, Range] = field(default_factory=dict)
    """Keys of `IMAGE_FIGURES`."""
    rois: Mapping[str, RoiRanges] = field(default_factory=dict)
    held_back: int = 0
    """Patients held back on whom the confidence was measured."""

    def __post_init__(self) -> None:
        _check(self.image, IMAGE_FIGURES, "an image")

    def with_absent(self, shares: Mapping[str, float]) -> Ranges:
        """The same with how often each ROI is certainly not in a training patient."""
        return replace(self, rois={n: replace(r, absent_share=shares.get(n)) for n, r in self.rois.items()})

    def with_confidence(self, shares: Mapping[str, Sequence[float]], held_back: int) -> Ranges:
        """The same with the uncertain share of each ROI's surface limited by what patients held back have.

        A ROI that too few of them have is limited by what all ROIs have.
        """
        rois = dict(self.rois)
        of_all = robust_range([share for found in shares.values() for share in found], UNCERTAIN_SURFACE)
        for name, found in shares.items():
            usual = robust_range(found, UNCERTAIN_SURFACE) or of_all
            if name in rois and usual is not None:
                rois[name] = replace(rois[name], flat_share=min(usual[2], UNCERTAIN_SHARE_AT_MOST))
        return replace(self, rois=rois, held_back=held_back)


UNCERTAIN_SURFACE = Figure(
    code="low_confidence", words="", unit="", ratio=False, least=0.05, low=False, wider=0.25
)
"""Narrower than other limits: an uncertain network is more often wrong."""
UNCERTAIN_SHARE_AT_MOST = 0.6
"""Where the boundary is uncertain on more of the surface, the contour is worth a look however usual that is."""


def _check(found: Mapping[str, Range], known: Mapping[str, Figure], what: str) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ConfigError(
            f"Ranges of figures that {what} does not have.",
            found=", ".join(unknown),
            expected=", ".join(known),
        )
    for name, (low, middle, high) in found.items():
        if not low <= middle <= high:
            raise ConfigError(
                "A range must ascend: lowest, median, highest.", where=name, found=(low, middle, high)
            )


# -- measuring ----------------------------------------------------------------------------------------------


def ranges_of(patients: Sequence[PatientFigures], grids: Sequence[Grid] = ()) -> Ranges:
    """The ranges of patients; what fewer than `FEWEST_FOR_RANGES` have is left out.

    Args:
        grids: of the original CTs, of these patients or of some of them.
    """
    images = [{**vars(patient.image)} for patient in patients]
    places = fit_places([centres_of(patient.rois) for patient in patients])
    found: dict[str, list[_RoiOfPatient]] = {}
    for patient in patients:
        centres = centres_of(patient.rois)
        for name, figures in patient.rois.items():
            compared = compared_of(name, figures, centres, places)
            found.setdefault(name, []).append(_RoiOfPatient(figures, compared))
    rois = {name: _roi_ranges(entries, places.get(name)) for name, entries in found.items() if entries}
    for name, extent in fitted_extents([ends_of(p.rois, p.body_ends_mm) for p in patients]).items():
        rois[name] = replace(rois[name], extent=extent)
    image = {
        **_usual([grid_figures(grid) for grid in grids], IMAGE_FIGURES),
        **_usual(images, IMAGE_FIGURES),
    }
    return Ranges(patients=len(patients), image={n: image[n] for n in IMAGE_FIGURES if n in image}, rois=rois)


def ends_of(rois: Mapping[str, RoiFigures], body_mm: tuple[float, float]) -> PatientEnds:
    """Where a patient's ROIs and the body in view end along the body."""
    ends = {name: figures.ends_mm for name, figures in rois.items() if math.isfinite(figures.ends_mm[0])}
    return PatientEnds(body=body_mm, rois=ends if math.isfinite(body_mm[0]) else {})


def grid_figures(grid: Grid) -> dict[str, float]:
    """What is compared of a CT's own grid; pixels count by their longer side."""
    return {
        "slice_mm": float(grid.slice_spacings_mm.max()) if grid.shape_kij[0] > 1 else grid.spacing_mm[0],
        "pixel_mm": max(grid.spacing_mm[1:]),
        "field_of_view_mm": min(
            n * mm for n, mm in zip(grid.shape_kij[1:], grid.spacing_mm[1:], strict=True)
        ),
    }


def image_values(figures: InputFigures) -> dict[str, float]:
    """What is compared of a prepared image."""
    return dict(vars(figures))


def centres_of(rois: Mapping[str, RoiFigures]) -> dict[str, Triple]:
    """{ROI: its centre}."""
    return {name: figures.centre_mm for name, figures in rois.items()}


def places_of(ranges: Ranges | None) -> dict[str, Triple]:
    """{ROI: its usual place}; nothing where it was not measured."""
    if ranges is None:
        return {}
    return {name: roi.place_mm for name, roi in ranges.rois.items() if roi.place_mm is not None}


def compared_of(
    name: str, figures: RoiFigures, centres: Mapping[str, Triple], places: Mapping[str, Triple]
) -> dict[str, float]:
    """{key of `ROI_FIGURES`: value} of one ROI; offsets and side only where they can be told."""
    values = {key: float(value) for key, value in vars(figures).items() if key in ROI_FIGURES}
    side = side_of(name)
    if side is not None:
        values["wrong_side_share"] = 1 - figures.left_share if side == "L" else figures.left_share
    offset = offset_mm(name, centres, places)
    if offset is not None:
        values.update(zip(OFFSETS, map(float, offset), strict=True))
    return {key: value for key, value in values.items() if math.isfinite(value)}


def side_of(name: str) -> str | None:
    """L or R where the name says so."""
    return split_side(name)[1]


def robust_range(values: Sequence[float], figure: Figure) -> Range | None:
    """Median and usual limits; None of fewer than `FEWEST_FOR_RANGES` values.

    Limits lie `FIGURES_WIDER` beyond the 5 % and the 95 % on either side, so that skewed figures have skewed limits.
    """
    if len(values) < FEWEST_FOR_RANGES:
        return None
    numbers = np.asarray(values, np.float64)
    if figure.ratio:
        numbers = np.log(np.maximum(numbers, 1e-6))
    low, middle, high = (float(q) for q in np.percentile(numbers, (5, 50, 95)))
    factor = 1 + figure.wider + FEW_PATIENTS_WIDER / len(values)
    least = math.log1p(figure.least) if figure.ratio else figure.least
    limits = (
        middle - max(factor * (middle - low), least),
        middle,
        middle + max(factor * (high - middle), least),
    )
    a, b, c = (math.exp(x) if figure.ratio else x for x in limits)
    if figure.share:
        c = min(c, 1.0)
    if figure.unit in ("", "cm3"):
        a = max(a, 0.0)
    return _rounded(a), _rounded(b), _rounded(c)


def _rounded(value: float) -> float:
    """To four digits: a range is no more exact, and model.yaml is read by people."""
    return float(f"{value:.4g}") if abs(value) > 1e-3 else 0.0


def _usual(patients: Sequence[Mapping[str, float]], figures: Mapping[str, Figure]) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for name, figure in figures.items():
        usual = robust_range([values[name] for values in patients if name in values], figure)
        if usual is not None:
            found[name] = usual
    return found


class _RoiOfPatient(NamedTuple):
    """A ROI of one patient: what was measured, and what is compared."""

    figures: RoiFigures
    compared: dict[str, float]


def _roi_ranges(entries: Sequence[_RoiOfPatient], place: Triple | None) -> RoiRanges:
    figures = [one.figures for one in entries]
    if len(entries) < FEWEST_FOR_RANGES:
        return RoiRanges(patients=len(entries))

    def most(values: Sequence[float]) -> float:
        return float(np.percentile(values, 95))

    return RoiRanges(
        patients=len(entries),
        figures=_usual([one.compared for one in entries], ROI_FIGURES),
        place_mm=None if place is None else (round(place[0], 1), round(place[1], 1), round(place[2], 1)),
        parts=max(1, math.ceil(most([f.parts for f in figures]))),
        hole_cm3=round(most([f.hole_cm3 for f in figures]), 3),
        missing_slices=math.ceil(most([f.missing_slices for f in figures])),
        reaches_end=round(float(np.mean([f.reaches_end for f in figures])), 3),
    )
