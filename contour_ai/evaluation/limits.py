"""What a department accepts: limits by ROI and figure from a YAML file, checked against measured figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from contour_ai.errors import ConfigError
from contour_ai.evaluation.metrics import BOTH, PREDICTION_MISSING, Row
from contour_ai.evaluation.report import quantile
from contour_ai.settings import from_mapping
from contour_ai.yaml_files import read_yaml

EXAMPLE = """\
# What our department accepts. A figure without a limit is reported, not checked; each_… holds for every single patient.
minimum_patients: 10            # with a reference, for every ROI named below
missing_at_most: 0              # patients with a reference and no prediction, for every ROI named below
rois:
  Brainstem:
    dsc: {median_at_least: 0.80, each_at_least: 0.60}
    hd95_mm: {median_at_most: 6, each_at_most: 15}
  SpinalCord:
    dsc: {median_at_least: 0.70}
    surface_dsc: {mean_at_least: 0.80}
    hd95_mm: {each_at_most: 15}
  Parotid_L:
    dsc: {median_at_least: 0.80}
    volume_ratio: {median_at_least: 0.9, median_at_most: 1.1}
    missing_at_most: 1
"""
"""Printed by `contour-ai commission --example-limits`."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Limits of one figure over the patients, and in each of them."""

    median_at_least: float | None = None
    """Lowest median over the patients; all values in the figure's own unit, None is not checked."""
    median_at_most: float | None = None
    """Highest median over the patients."""
    mean_at_least: float | None = None
    """Lowest mean over the patients."""
    mean_at_most: float | None = None
    """Highest mean over the patients."""
    each_at_least: float | None = None
    """Lowest value of every single patient."""
    each_at_most: float | None = None
    """Highest value of every single patient."""


@dataclass(frozen=True, kw_only=True)
class RoiLimits:
    """Limits of one ROI; None is not checked (or, for the last two, as for all ROIs)."""

    dsc: Limit | None = None
    """Dice similarity coefficient, 0 to 1."""
    surface_dsc: Limit | None = None
    """Surface DSC at the tolerance, 0 to 1."""
    hd95_mm: Limit | None = None
    """95th percentile of the surface distances, mm."""
    hd100_mm: Limit | None = None
    """Hausdorff distance, mm."""
    masd_mm: Limit | None = None
    """Mean of the two directed mean surface distances, mm."""
    assd_mm: Limit | None = None
    """Mean surface distance over both surfaces, mm."""
    added_path_mm: Limit | None = None
    """Added path length, mm."""
    volume_ratio: Limit | None = None
    """Predicted over reference volume."""
    minimum_patients: int | None = None
    """Patients with a reference that this ROI needs."""
    missing_at_most: int | None = None
    """Patients with a reference and no prediction that are accepted."""

    @property
    def figures(self) -> dict[str, Limit]:
        """The limits that there are, by figure."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Limit)}


@dataclass(frozen=True)
class Limits:
    """All limits of a department, for `commission`.

    Raises:
        ConfigError: there is no ROI.
    """

    rois: dict[str, RoiLimits] = field(default_factory=dict)
    """{ROI: its limits}."""
    minimum_patients: int = 1
    """Patients with a reference that every ROI of `rois` needs."""
    missing_at_most: int = 0
    """Patients with a reference and no prediction that are accepted, for every ROI of `rois`."""

    def __post_init__(self) -> None:
        if not self.rois:
            raise ConfigError("There are no limits.", expected="rois: {ROI: {figure: {median_at_least: …}}}")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One limit and what was found; `detail` names the patients concerned."""

    subject: str
    """ROI, or part of the run, that is checked."""
    rule: str
    """What is required, in words."""
    found: str
    """What was found, in words."""
    passed: bool
    """Whether it is kept."""
    detail: str = ""
    """Patients concerned; "" for none."""


def load_limits(path: Path) -> Limits:
    """Reads a file of limits.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a value that is no number, or no limit at all.
    """
    path = Path(path)
    content = read_yaml(
        path, "The file of limits", fix="contour-ai commission --example-limits prints a file to start from"
    )
    return from_mapping(Limits, content, where=path)


def check_limits(rows: Sequence[Row], limits: Limits) -> tuple[Check, ...]:
    """Every limit against the figures of all patients; a ROI without any fails."""
    checks: list[Check] = []
    for roi, of_roi in limits.rois.items():
        scored = [r for r in rows if r.roi == roi and r.status in (BOTH, PREDICTION_MISSING)]
        checks += _counts(roi, scored, of_roi, limits)
        for figure, limit in of_roi.figures.items():
            values = {row.patient: float(getattr(row, figure)) for row in scored}
            checks += _figure(roi, figure, values, limit)
    return tuple(checks)


def _counts(roi: str, scored: Sequence[Row], of_roi: RoiLimits, limits: Limits) -> Iterator[Check]:
    least = limits.minimum_patients if of_roi.minimum_patients is None else of_roi.minimum_patients
    yield Check(
        subject=roi,
        rule=f"at least {least} patients with a reference",
        found=str(len(scored)),
        passed=len(scored) >= least,
    )
    most = limits.missing_at_most if of_roi.missing_at_most is None else of_roi.missing_at_most
    missing = [row.patient for row in scored if row.status == PREDICTION_MISSING]
    yield Check(
        subject=roi,
        rule=f"at most {most} without a prediction",
        found=str(len(missing)),
        passed=len(missing) <= most,
        detail=_listing(missing),
    )


def _figure(roi: str, figure: str, values: Mapping[str, float], limit: Limit) -> Iterator[Check]:
    averages: dict[str, Callable[[list[float]], float]] = {
        "median": lambda v: quantile(v, 0.5),
        "mean": lambda v: sum(v) / len(v) if v else math.nan,
    }
    for bound in (f.name for f in fields(limit)):
        value = getattr(limit, bound)
        if value is None:
            continue
        what, _, side = bound.partition("_")
        rule = f"{what} {figure} {side.replace('_', ' ')} {value:g}"
        if what == "each":
            outside = [patient for patient, v in values.items() if not _holds(v, side, value)]
            worst = _worst(values, side)
            yield Check(
                subject=roi,
                rule=rule,
                found=worst,
                passed=not outside and bool(values),
                detail=_listing(outside),
            )
        else:
            average = averages[what](list(values.values()))
            yield Check(subject=roi, rule=rule, found=_text(average), passed=_holds(average, side, value))


def _holds(value: float, side: str, limit: float) -> bool:
    """Whether a value keeps its limit; an undefined one does not."""
    return value >= limit if side == "at_least" else value <= limit


def _worst(values: Mapping[str, float], side: str) -> str:
    """The value that is nearest to the limit, or farthest beyond it, and whose it is."""
    if not values:
        return "–"
    known = {patient: v for patient, v in values.items() if not math.isnan(v)} or dict(values)
    pick = min if side == "at_least" else max
    patient = pick(known, key=lambda p: known[p])
    return f"{_text(known[patient])} ({patient})"


def _text(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.3f}"


def _listing(patients: Sequence[str]) -> str:
    return ", ".join(patients)
