"""What a CT's header says of patient and scan that decides whether a model knows such patients."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from contour_ai.dicom.values import numbers, text

SCAN_FACT_KEYWORDS = (
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "PatientPosition",
    "ContrastBolusAgent",
    "KVP",
    "GantryDetectorTilt",
)
DAYS = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}
AGE = re.compile(r"(\d{1,3})([DWMY])")
OLDEST_YEARS = 120.0
NO_AGENT = frozenset({"", "no", "none", "n/a", "native", "without"})


@dataclass(frozen=True, kw_only=True)
class ScanFacts:
    """What the header says; None, or "", where it says nothing.

    Args:
        sex: M or F.
        age_years: from PatientAge, else from the dates of birth and study.
        position: PatientPosition.
        contrast: whether ContrastBolusAgent names an agent.
        kvp: of the tube.
        tilt_degrees: of the gantry, whatever its sign.
    """

    sex: str = ""
    age_years: float | None = None
    position: str = ""
    contrast: bool | None = None
    kvp: float | None = None
    tilt_degrees: float | None = None


def facts_of_scan(header: Dataset) -> ScanFacts:
    """The facts of one header, of any file of the series."""
    sex = text(header, "PatientSex").strip().upper()
    tilt, kvp = (next(iter(numbers(header, keyword)), None) for keyword in ("GantryDetectorTilt", "KVP"))
    agent = text(header, "ContrastBolusAgent").strip().casefold()
    return ScanFacts(
        sex=sex if sex in ("M", "F") else "",
        age_years=_age_years(header),
        position=text(header, "PatientPosition").strip().upper(),
        contrast=agent not in NO_AGENT if "ContrastBolusAgent" in header else None,
        kvp=kvp if kvp is not None and kvp > 0 else None,
        tilt_degrees=None if tilt is None else abs(tilt),
    )


def _age_years(header: Dataset) -> float | None:
    match = AGE.fullmatch(text(header, "PatientAge").strip().upper())
    if match is not None:
        return int(match[1]) * DAYS[match[2]] / DAYS["Y"]
    try:
        born, studied = (
            datetime.strptime(text(header, keyword).strip(), "%Y%m%d")
            for keyword in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:
        return None
    years = (studied - born).days / DAYS["Y"]
    return years if 0 <= years <= OLDEST_YEARS else None
