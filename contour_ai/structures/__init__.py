"""ROI names as TG-263 has them: colours, interpreted types, left/right partners, aliases; all of it data in YAML."""

from __future__ import annotations

from contour_ai.structures.names import flip_pairs, split_side, tg263_name
from contour_ai.structures.roi_record import INTERPRETED_TYPES, RoiInfo, roi_info, tg263_table

__all__ = [
    "INTERPRETED_TYPES",
    "RoiInfo",
    "flip_pairs",
    "roi_info",
    "split_side",
    "tg263_name",
    "tg263_table",
]
