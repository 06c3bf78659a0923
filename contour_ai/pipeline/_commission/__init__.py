"""A department's own acceptance run: contours its patients, compares with its contours, checks its limits."""

from contour_ai.pipeline._commission.constancy import EarlierRun, read_earlier_run
from contour_ai.pipeline._commission.options import (
    PREDICTIONS,
    RECORD,
    REPORT,
    Commissioning,
    CommissionOptions,
)
from contour_ai.pipeline._commission.run import commission

__all__ = [
    "PREDICTIONS",
    "RECORD",
    "REPORT",
    "CommissionOptions",
    "Commissioning",
    "EarlierRun",
    "commission",
    "read_earlier_run",
]
