"""Which names of ROIs are not those of TG-263, for profiles that ask for them."""

from __future__ import annotations

from collections.abc import Sequence

from contour_ai.dicom.finding import Findings, differs
from contour_ai.dicom.profile import Profile
from contour_ai.structures import classify
from contour_ai.structures.tg263 import is_listed_name, misprints, row_of

RULE = "tg263-name"


def standard_name_findings(names: Sequence[str], profile: Profile) -> Findings:
    """Names that the list of TG-263 does not have, or spells otherwise; what they would be called."""
    for name in names if profile.standard_names else ():
        if name.strip() and not is_listed_name(name):
            yield differs(RULE, f"ROI {name!r}, ROIName", _message(name))


def _message(name: str) -> str:
    if name in misprints():
        return f"is a misprint of TG-263's list; it is {misprints()[name]}"
    row = row_of(name)
    if row is not None and row.name == name:
        return "is formed as TG-263 forms names, but its list does not have it"
    found = classify(name)
    if found.tg263_name is not None:
        return f"is no name of TG-263; it would be {found.tg263_name}"
    return f"is no name of TG-263 ({found.kind.value}: {found.rule})"
