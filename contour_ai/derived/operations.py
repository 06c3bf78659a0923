"""What each operation of a recipe is told: distances, ROIs, sides and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contour_ai.derived.shaping import Side
from contour_ai.errors import ConfigError

Names = str | tuple[str, ...]
"""One ROI name or several; `*`, `?` and `[..]` stand for any characters, as in Lung_*."""

WhichEnd = Literal["lower", "upper"]


@dataclass(frozen=True, kw_only=True)
class Ring:
    """What lies between two distances from the ROI."""

    inner_mm: float = 0.0
    """Distance from the ROI's surface at which the ring begins; 0 at the surface, negative inside."""
    outer_mm: float
    """Distance at which it ends."""

    def __post_init__(self) -> None:
        if not self.inner_mm < self.outer_mm:
            raise ConfigError(
                "A ring must end farther out than it begins.",
                found=f"inner_mm {self.inner_mm:g}, outer_mm {self.outer_mm:g}",
            )


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A ROI to keep away from, or to stay inside of."""

    rois: Names
    """The ROI, or several, united."""
    gap_mm: float = 0.0
    """Distance to its surface."""

    def __post_init__(self) -> None:
        if not 0 <= self.gap_mm <= 300:
            raise ConfigError("A gap is out of range.", found=self.gap_mm, expected="0 to 300 mm")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Which connected parts of a ROI go."""

    below_cm3: float = 0.0
    """Parts of less than this volume."""
    keep: int | None = None
    """All but so many, the largest."""

    def __post_init__(self) -> None:
        if self.below_cm3 < 0 or (self.keep is not None and self.keep < 1):
            raise ConfigError("remove_parts needs a volume of at least 0, and at least one part to keep.")


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Slices without contour between two that have one."""

    largest_gap_mm: float = 20.0
    """Distance of two contoured slices up to which what lies between is drawn."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """How far the last contours are repeated along the body."""

    superior_mm: float = 0.0
    """Towards the head."""
    inferior_mm: float = 0.0
    """Towards the feet."""

    def __post_init__(self) -> None:
        if min(self.superior_mm, self.inferior_mm) < 0:
            raise ConfigError("An extension cannot be negative; use cut to shorten a ROI.")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The stretch of the body that stays."""

    to: Names
    """The ROI, or several, whose extent along the body counts."""
    superior_mm: float = 0.0
    """How far beyond its upper end, towards the head."""
    inferior_mm: float = 0.0
    """How far beyond its lower end, towards the feet."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One side of a ROI."""

    side: Side
    """left or right, of the patient."""
    at: Names | None = None
    """The ROI whose centre is the plane between the sides; none: the ROI's own centre."""


@dataclass(frozen=True, kw_only=True)
class End:
    """Where a ROI ends along the body: what lies beyond goes. It is never made longer; see `extend` for that."""

    end: WhichEnd
    """lower or upper: the end of the ROI that is set."""
    rois: Names
    """The ROI, or several, from whose end it is measured."""
    at: WhichEnd = "lower"
    """Their lower or upper end."""
    offset_mm: float = 0.0
    """How far above that end (negative: below)."""
