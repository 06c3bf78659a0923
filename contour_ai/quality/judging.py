"""Verdicts from quality findings: which of them are gross, and what a patient's ROIs say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contour_ai.quality.flag import CODES, Flag, PatientFlags, make_flag
from contour_ai.quality.verdict import Opinion, PatientVerdict, RoiVerdict, worst

FAR_OUTSIDE = 0.75
"""A figure is grossly wrong where it lies beyond its limit by this times the distance between the limits."""
GROSS_OFFSET_MM = 25.0
"""A position is not, however narrow the limits, where it lies nearer to its limit than this: heads are bent."""
GROSS_HU = 60.0
"""The same of a mean density: metal and contrast medium change it by this much."""
GROSS_RATIO = 2.0
"""A volume is grossly wrong where it is above its upper limit by this factor,"""
GROSS_SMALL_RATIO = 4.0
"""or below its lower limit by this one: organs are cut by the end of a scan or by a field of view."""
GROSS_WRONG_SIDE = 0.8
"""Share of a ROI's volume on the other side,"""
GROSS_WRONG_SIDE_MM = 20.0
"""or distance beyond its partner, from which it is the other side's organ."""
MOST_STOPPED_SHARE = 0.6
"""A patient is not of the model's region where more of its ROIs are empty or grossly wrong."""
HALF = 0.5
"""The same in a long scan of a body of another size: a thorax shows the cord, the esophagus and at times the larynx,
and so does the scan of a neck, which is short or of a usual size."""
LONG_SCAN_MM = 150.0
FEWEST_SHOWN = 3
"""So many ROIs that are found, or should be, say which part of the body a scan shows; the others may be beyond it."""

IMPORTANCE: Sequence[str] = (
    "other_region",
    "other_sex",
    "empty",
    "speck",
    "wrong_side",
    "volume",
    "position_to_rois",
    "mean_hu",
    "position_in_body",
)
"""Codes that come first among findings of one weight; the others keep the order in which they were found."""

PLAIN = frozenset(
    {
        "empty",
        "speck",
        "wrong_side",
        "slice_gaps",
        "touches_field_of_view",
        "beyond_scan",
        "ends_elsewhere",
        "outside_body",
    }
)
"""Findings that count whatever a fitted model says."""

STOPS_PATIENT = frozenset({"input_orientation"})
"""Findings on the image with which no contour of the patient may be used, whatever the ROIs look like."""

INFORMATION = frozenset(
    {"touches_scan_end", "input_missing_anatomy", "input_contrast", "input_kvp", "input_tilt"}
)
"""Findings that say what the scan shows, not that a contour is wrong, of which none alone makes a ROI `look`."""


def judge(
    flags: PatientFlags,
    organs: Sequence[str],
    region: str = "",
    *,
    scan_mm: float = 0.0,
    opinions: Mapping[str, Opinion] | None = None,
) -> PatientVerdict:
    """The verdict on a prediction, from its quality findings.

    Args:
        flags: of the image and by ROI.
        organs: the ROIs that count for the patient; the body's outline does not.
        region: what the model knows, in words, for the sentence on a patient of another region.
        scan_mm: length of the scan along the slice normal.
        opinions: by ROI, of the model of its own contours; None where there is none.
    """
    rois = {name: judge_roi(found, (opinions or {}).get(name)) for name, found in flags.rois.items()}
    findings = [*flags.image]
    known = [n for n in organs if n in rois]
    shown = [n for n in known if not _beyond_scan(rois[n])]
    if len(shown) >= FEWEST_SHOWN:  # fewer do not say where the scan ends
        known = shown
    absurd = [n for n in known if _counts_against_region(rois[n]) or _beyond_scan(rois[n])]
    if any(flag.code in STOPS_PATIENT for flag in findings):
        findings.sort(key=lambda flag: flag.code not in STOPS_PATIENT)
        return PatientVerdict(verdict="stop", findings=tuple(findings), rois=rois)
    other_size = any(flag.code == "input_body_size" and is_above(flag) for flag in findings)
    limit = HALF if other_size and scan_mm >= LONG_SCAN_MM else MOST_STOPPED_SHARE
    if known and len(absurd) > limit * len(known):
        return PatientVerdict(
            verdict="stop", findings=(_other_region(absurd, known, rois, region), *findings), rois=rois
        )
    verdict = worst(["look" if roi.verdict != "clear" else "clear" for roi in rois.values()])
    if any(flag.code not in INFORMATION for flag in findings):
        verdict = worst([verdict, "look"])
    return PatientVerdict(verdict=verdict, findings=tuple(findings), rois=rois)


def judge_roi(flags: Sequence[Flag], opinion: Opinion | None = None) -> RoiVerdict:
    """The verdict on one ROI: `stop` where a finding is gross, `look` where there is any.

    Where a fitted model has an opinion, that has weighed ranges, shape and confidence: of these findings only gross
    ones count then, and those of `PLAIN`.
    """
    probability = None if opinion is None else opinion.probability
    if opinion is not None:
        flags = [flag for flag in flags if is_gross(flag) or flag.code in PLAIN]
        if opinion.probability > opinion.limit:
            flags.append(
                make_flag(
                    "needs_correction",
                    opinion.reason,
                    opinion.probability,
                    None,
                    opinion.limit,
                    "",
                    opinion.slices,
                )
            )
    if not flags:
        return RoiVerdict(verdict="clear", probability=probability)
    ordered = sorted(flags, key=lambda flag: (not is_gross(flag), _rank(flag.code)))
    beyond = all(flag.code == "beyond_scan" for flag in ordered)
    return RoiVerdict(
        verdict="clear" if beyond else "stop" if is_gross(ordered[0]) else "look",
        findings=tuple(ordered),
        probability=probability,
    )


def is_gross(flag: Flag) -> bool:
    """Whether a finding says that the contour is of something else, not that it is imprecise."""
    value, low, high = flag.value, flag.low, flag.high
    if flag.code == "other_sex":
        return True
    if value is None:
        return False
    if flag.code == "speck":
        return low is not None and value * GROSS_SMALL_RATIO < low
    if flag.code == "volume":
        too_large = high is not None and value > GROSS_RATIO * high
        return too_large or (low is not None and value * GROSS_SMALL_RATIO < low)
    if flag.code == "wrong_side":
        return value > GROSS_WRONG_SIDE if flag.unit == "" else value < -GROSS_WRONG_SIDE_MM
    least = {("position_to_rois", "mm"): GROSS_OFFSET_MM, ("position_in_body", "mm"): GROSS_OFFSET_MM}.get(
        (flag.code, flag.unit), GROSS_HU if flag.code == "mean_hu" else None
    )
    if least is None or low is None or high is None:
        return False
    beyond = max(low - value, value - high)
    return beyond > max(least, FAR_OUTSIDE * (high - low))


def is_above(flag: Flag) -> bool:
    """Whether the number lies above its upper limit."""
    return flag.value is not None and flag.high is not None and flag.value > flag.high


def _rank(code: str) -> int:
    return IMPORTANCE.index(code) if code in IMPORTANCE else len(IMPORTANCE) + list(CODES).index(code)


def _beyond_scan(roi: RoiVerdict) -> bool:
    return any(flag.code == "beyond_scan" for flag in roi.findings)


def _counts_against_region(roi: RoiVerdict) -> bool:
    if any(flag.code == "other_sex" for flag in roi.findings):
        return False  # says who the patient is, not what the scan shows
    return roi.verdict == "stop" or any(flag.code == "empty" for flag in roi.findings)


def _other_region(
    absurd: Sequence[str], known: Sequence[str], rois: Mapping[str, RoiVerdict], region: str
) -> Flag:
    empty = [n for n in absurd if any(flag.code in ("empty", "beyond_scan") for flag in rois[n].findings)]
    parts = [f"{', '.join(empty)} not found"] if empty else []
    gross = [n for n in absurd if n not in empty]
    parts += [f"{', '.join(gross)} absurd"] if gross else []
    what = f"no {region} in this scan" if region else "this scan does not show what the model knows"
    reason = f"{what}: {len(absurd)} of {len(known)} ROIs empty or absurd ({'; '.join(parts)})"
    return make_flag("other_region", reason, len(absurd) / len(known), None, MOST_STOPPED_SHARE)
