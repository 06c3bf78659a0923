"""What a training can be told besides its configuration, and the files of a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.bundle import ModelBundle
from contour_ai.structures.roi_map import RoiMap
from contour_ai.training.archive_check import ArchiveCheck

if TYPE_CHECKING:
    from contour_ai.training.limiting import RoiLimit

CONFIG_FILE = "config.yaml"
MAP_FILE = "roi-map.yaml"
CHECK_FILE = "archive-check.csv"
CURATION_PAGE = "archive-check.html"
BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `train` can be told besides configuration, data and run folder."""

    roi_map: RoiMap | None = None
    """Which names stand for which ROI; None for the TG-263 names proposed."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    init: ModelBundle | None = None
    """A model to start from: its network and preprocessing are taken over (but for a voxel size that the configuration
    names), shared ROIs keep their weights."""
    resume: bool = False
    """Resume the training in the run folder, with its own configuration and map."""
    time_budget_s: float | None = None
    """End within so many seconds, preparation included, with the schedule finished and the best model validated; None
    for as many steps as the configuration says."""
    cache_dir: Path | None = None
    """Where prepared patients are kept; None for `cache` in the run folder."""
    strict: bool = False
    """Stop where the check of the archive would leave something out."""
    on_names: Callable[[str], None] = lambda described: None
    """Told how many names were mapped, set aside and left out."""
    on_check: Callable[[ArchiveCheck], None] = lambda check: None
    """Told what looks wrong in the archive, before anything is left out."""
    on_limits: Callable[[Sequence[RoiLimit]], None] = lambda limits: None
    """Told at the end what limits the ROIs."""
    on_plan: Callable[[Mapping[str, str]], None] = lambda facts: None
    """Told what will be done, before the first step."""
