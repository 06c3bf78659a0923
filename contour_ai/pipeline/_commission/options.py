"""What `commission` can be told and what comes out of it; the files that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.bundle.seen_series import Role
from contour_ai.dicom.structure_set_choice import ONLY
from contour_ai.evaluation.tolerances import Tolerances
from contour_ai.report.commissioning import CommissioningPage
from contour_ai.structures.roi_map import RoiMap

REPORT = "commissioning.html"
RECORD = "commissioning.json"
PREDICTIONS = "predictions"


@dataclass(frozen=True, kw_only=True)
class CommissionOptions:
    """What `commission` can be told besides data, model, limits and output folder."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    tta: bool | None = None
    """Average with the left-right mirror image. None: the model's setting."""
    structure_set: str = ONLY
    """Which structure set is compared with where a CT has several: newest, approved, only, or a pattern of labels."""
    acquisition: int | None = None
    """The AcquisitionNumber to take where several acquisitions overlap in a CT series; None leaves such a patient
    out."""
    roi_map: RoiMap | None = None
    """Names in the department's structure sets that stand for the model's ROIs."""
    tau: float | Tolerances | None = None
    """Tolerance of the surface DSC: mm for every ROI, or by ROI; None for those that come with the package."""
    overwrite: bool = False
    """Replace an earlier report, if nobody has changed or added anything in its folder."""
    keep_trained_on: bool = False
    """Whether patients that the model was trained on are measured, too; their figures say nothing about others."""
    repeat: Path | None = None
    """Folder of an earlier run: its patients are contoured again, and compared with what it drew."""
    dossier: bool = False
    """Whether a draft of the department's own file for the model is written."""
    strata: Path | None = None
    """Table of the patients' groups (metal, contrast, post-operative, scanner, …), completed by hand."""
    inputs: tuple[Path, ...] = ()
    """Files besides the data and the model that were read, which are never replaced."""


@dataclass(frozen=True)
class Commissioning:
    """What a commissioning run found, and where it was written."""

    folder: Path
    """The folder that was written: `commissioning.html`, `commissioning.json`, tables and predictions."""
    page: CommissioningPage
    """Every check with what was found, every figure and every patient, as the report shows them."""
    trained_on: Mapping[str, Role] = field(default_factory=dict)
    """{patient that was measured though the model has seen it: as what}."""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.page.passed
