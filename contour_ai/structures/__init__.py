"""ROI names: TG-263 whole, what any name is the name of, colours, types, left/right partners; data in YAML and CSV."""

from __future__ import annotations

from contour_ai.structures.classification import classify
from contour_ai.structures.name_class import Kind, NameClass
from contour_ai.structures.names import flip_pairs, split_side, tg263_name
from contour_ai.structures.roi_record import INTERPRETED_TYPES, RoiInfo, roi_info, tg263_table

__all__ = [
    "INTERPRETED_TYPES",
    "Kind",
    "NameClass",
    "RoiInfo",
    "classify",
    "flip_pairs",
    "roi_info",
    "split_side",
    "tg263_name",
    "tg263_table",
]
