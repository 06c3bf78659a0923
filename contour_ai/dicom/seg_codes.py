"""Coded segment properties (SNOMED CT) of a ROI name, for DICOM SEG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from contour_ai.structures import tg263_name

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

TARGETS = {"GTV": "Neoplasm", "IGTV": "Neoplasm"}
"""First word of a target's name: a gross tumour is coded as one, a CTV or PTV as tissue, which is all it is."""


@dataclass(frozen=True, kw_only=True)
class SegmentCodes:
    """SegmentedPropertyCategory, -Type and, for one of a pair, the side (PS3.3 C.8.20.2)."""

    category: Code
    type: Code
    side: Code | None = None


def segment_codes(roi_name: str) -> SegmentCodes:
    """The codes of a ROI; a name that is not in the table is tissue."""
    from pydicom.sr.codedict import codes

    sct = codes.SCT
    standard = tg263_name(roi_name) or roi_name
    first = standard.split("_")[0].rstrip("0123456789")
    if first.upper() in TARGETS:
        return SegmentCodes(
            category=sct.MorphologicallyAbnormalStructure, type=getattr(sct, TARGETS[first.upper()])
        )
    base, side = standard, None
    keyword = _table().get(standard)
    if keyword is None and standard[-2:] in ("_L", "_R"):
        base, side = standard[:-2], sct.Left if standard.endswith("_L") else sct.Right
        keyword = _table().get(base)
    if keyword is None:
        return SegmentCodes(category=sct.Tissue, type=sct.Tissue, side=side)
    return SegmentCodes(category=sct.AnatomicalStructure, type=getattr(sct, keyword), side=side)


@cache
def _table() -> dict[str, str]:
    content = yaml.safe_load((Path(__file__).parent / "segment_codes.yaml").read_text(encoding="utf-8"))
    return {str(name): str(keyword) for name, keyword in content.items()}
