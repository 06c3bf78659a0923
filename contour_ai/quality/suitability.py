"""Whether a model knows patients like this one: sex, age, posture, contrast medium, tube voltage, gantry tilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contour_ai.dicom.scan_facts import ScanFacts
from contour_ai.quality.flag import Flag, make_flag
from contour_ai.structures import tg263_name

FEWEST_KNOWN = 10
"""Of fewer patients with a known fact nothing is concluded from what none of them has."""
ADULT_YEARS = 16.0
BEYOND_YEARS = 10.0
"""A patient so much younger or older than the training patients is named."""
BEYOND_KV = 15.0
TILT_DEGREES = 2.0
"""Smaller tilts are rounding."""
MALE = frozenset(
    {"Prostate", "ProstateBed", "SeminalVes", "PenileBulb", "Penis", "Scrotum", "Testis_L", "Testis_R"}
)
FEMALE = frozenset({"Uterus", "Cervix", "Vagina", "Vulva", "Ovary_L", "Ovary_R", "Ovaries"})
POSTURES: Mapping[str, str] = {
    "S": "supine",
    "P": "prone",
    "DL": "on the left side",
    "DR": "on the right side",
}
"""By the end of PatientPosition."""
SEXES = {"M": "male", "F": "female"}


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """What the headers of a model's training patients said.

    Args:
        patients: whose headers were read.
        sex, position: {value: patients}, of those where it is known.
        age_years, kvp: 5 %, median and 95 %; None where fewer than `FEWEST_KNOWN` patients say it.
        with_contrast, without_contrast: patients, of those where it is known.
        tilted: patients with a gantry tilt above 2 degrees.
    """

    patients: int = 0
    sex: Mapping[str, int] = field(default_factory=dict)
    position: Mapping[str, int] = field(default_factory=dict)
    age_years: tuple[float, float, float] | None = None
    kvp: tuple[float, float, float] | None = None
    with_contrast: int = 0
    without_contrast: int = 0
    tilted: int = 0

    def in_words(self) -> str:
        """A sentence for the card; "" where the headers say nothing."""
        parts = []
        if self.sex:
            parts.append(", ".join(f"{n} {SEXES.get(sex, sex)}" for sex, n in self.sex.items()))
        if self.age_years is not None:
            parts.append("aged {:.0f} to {:.0f} (median {:.0f})".format(*np.array(self.age_years)[[0, 2, 1]]))
        if self.position:
            parts.append("PatientPosition " + ", ".join(f"{p} in {n}" for p, n in self.position.items()))
        if self.with_contrast or self.without_contrast:
            parts.append(
                f"contrast medium in {self.with_contrast} of {self.with_contrast + self.without_contrast}"
            )
        if self.kvp is not None:
            parts.append(f"{self.kvp[0]:.0f} to {self.kvp[2]:.0f} kV")
        if self.tilted:
            parts.append(f"gantry tilt in {self.tilted}")
        return f"By the headers of {self.patients} patients: {'; '.join(parts)}." if parts else ""


def trained_on(patients: Sequence[ScanFacts]) -> TrainedOn:
    """What the headers of patients say together."""
    contrast = [facts.contrast for facts in patients if facts.contrast is not None]
    return TrainedOn(
        patients=len(patients),
        sex=dict(sorted(Counter(facts.sex for facts in patients if facts.sex).items())),
        position=dict(sorted(Counter(facts.position for facts in patients if facts.position).items())),
        age_years=_spread([facts.age_years for facts in patients if facts.age_years is not None]),
        kvp=_spread([facts.kvp for facts in patients if facts.kvp is not None]),
        with_contrast=sum(contrast),
        without_contrast=len(contrast) - sum(contrast),
        tilted=sum((facts.tilt_degrees or 0.0) > TILT_DEGREES for facts in patients),
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    if len(values) < FEWEST_KNOWN:
        return None
    low, middle, high = (round(float(v), 1) for v in np.percentile(values, (5, 50, 95)))
    return low, middle, high


def suitability_flags(facts: ScanFacts, known: TrainedOn | None, rois: Sequence[str]) -> list[Flag]:
    """What of patient and scan does not fit what the model was trained on, one sentence each.

    Args:
        known: None where the model does not say; then only what its ROIs, or common sense, say counts.
        rois: names of the model's ROIs.
    """
    known = known or TrainedOn()
    found = [
        _sex(facts, known, rois),
        _age(facts, known),
        _posture(facts, known),
        _contrast(facts, known),
        _kvp(facts, known),
        _tilt(facts, known),
    ]
    return [flag for flag in found if flag is not None]


def organs_of_other_sex(facts: ScanFacts, rois: Sequence[str]) -> dict[str, Flag]:
    """{ROI: finding} of the organs that patients of the header's PatientSex do not have; none where it is not known.

    A header can be wrong, and there are people whose organs are not those of the sex in it: who knows better writes
    the contour all the same.
    """
    if not facts.sex:
        return {}
    theirs, whose = (MALE, "men") if facts.sex == "F" else (FEMALE, "women")
    reason = f"PatientSex is {facts.sex}, and this is an organ of {whose}"
    return {roi: Flag(code="other_sex", reason=reason) for roi in rois if (tg263_name(roi) or roi) in theirs}


def _sex(facts: ScanFacts, known: TrainedOn, rois: Sequence[str]) -> Flag | None:
    if not facts.sex:
        return None
    organs = organs_of_other_sex(facts, rois)
    other = "M" if facts.sex == "F" else "F"
    if organs:
        why = f"the model contours organs of {'men' if facts.sex == 'F' else 'women'} ({', '.join(organs)})"
    elif known.sex.get(other, 0) >= FEWEST_KNOWN and not known.sex.get(facts.sex):
        why = f"all {known.sex[other]} training patients of known sex are {SEXES[other]}"
    else:
        return None
    return Flag(code="input_sex", reason=f"PatientSex is {facts.sex}; {why}")


def _age(facts: ScanFacts, known: TrainedOn) -> Flag | None:
    age = facts.age_years
    if age is None:
        return None
    who = f"the patient is {age:.0f} years old" if age >= 2 else f"the patient is {12 * age:.0f} months old"
    if known.age_years is not None:
        low, _, high = known.age_years
        if low - BEYOND_YEARS <= age <= high + BEYOND_YEARS and (age >= ADULT_YEARS or low < ADULT_YEARS):
            return None
        reason = f"{who}; the training patients were {low:.0f} to {high:.0f}"
        return make_flag("input_age", reason, age, low, high, "years")
    if age >= ADULT_YEARS:
        return None
    reason = f"{who}, and the model does not say that it knows children"
    return make_flag("input_age", reason, age, ADULT_YEARS, None, "years")


def posture(position: str) -> str:
    """How a patient lies, by PatientPosition; "" where it says nothing."""
    ends = (words for end, words in POSTURES.items() if position.endswith(end) and len(position) > len(end))
    return next(ends, "")


def _posture(facts: ScanFacts, known: TrainedOn) -> Flag | None:
    mine = posture(facts.position)
    theirs = Counter({posture(position): n for position, n in known.position.items() if posture(position)})
    lay = sum(theirs.values())
    if not mine or lay < FEWEST_KNOWN or mine in theirs:
        return None
    usual = ", ".join(theirs)
    reason = (
        f"the patient lies {mine} (PatientPosition {facts.position}); all {lay} training patients lay {usual}"
    )
    return Flag(code="input_posture", reason=reason)


def _contrast(facts: ScanFacts, known: TrainedOn) -> Flag | None:
    counts = {True: known.with_contrast, False: known.without_contrast}
    if facts.contrast is None or counts[facts.contrast] or counts[not facts.contrast] < FEWEST_KNOWN:
        return None
    mine, theirs = ("with", "without") if facts.contrast else ("without", "with")
    others = f"all {counts[not facts.contrast]} training patients whose header says it were scanned {theirs}"
    reason = f"scanned {mine} contrast medium; {others}"
    return Flag(code="input_contrast", reason=reason)


def _kvp(facts: ScanFacts, known: TrainedOn) -> Flag | None:
    if facts.kvp is None or known.kvp is None:
        return None
    low, _, high = known.kvp
    if low - BEYOND_KV <= facts.kvp <= high + BEYOND_KV:
        return None
    reason = (
        f"scanned at {facts.kvp:.0f} kV, training patients at {low:.0f} to {high:.0f} kV: HU of bone differ"
    )
    return make_flag("input_kvp", reason, facts.kvp, low, high, "kV")


def _tilt(facts: ScanFacts, known: TrainedOn) -> Flag | None:
    tilt = facts.tilt_degrees or 0.0
    if tilt <= TILT_DEGREES or known.tilted or known.patients < FEWEST_KNOWN:
        return None
    reason = f"the gantry was tilted by {tilt:.0f} degrees; no training patient was scanned so"
    return make_flag("input_tilt", reason, tilt, None, TILT_DEGREES, "degrees")
