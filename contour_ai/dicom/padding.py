"""Padding: stored values that stand for "no image here" (PixelPaddingValue), not for a density."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from contour_ai.dicom.slice_header import Slice
from contour_ai.dicom.values import integer

AIR_HU = -1000
DENSER_THAN_AIR_HU = -900
"""Padding below this is air as it stands, whatever lies around it, and is left as stored (scanners write -1024, -2000
or -3024)."""

SPECK = 10
"""A smaller region that holds no corner of the image is noise that happens to have the padding's value."""

Stored = NDArray[np.integer]


@dataclass(frozen=True)
class Padding:
    """Stored values from `low` to `high` are padding (PS3.3 C.7.5.1.1.2)."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"

    def outside(self, stored: Stored, one: Slice) -> NDArray[np.bool_] | None:
        """The padding (i, j) of a slice that is connected to the image's edge; None where all is right."""
        ends = [
            v * (1.0 if one.slope is None else one.slope) + (one.intercept or 0.0)
            for v in (self.low, self.high)
        ]
        if max(ends) <= DENSER_THAN_AIR_HU:
            return None
        padded: NDArray[np.bool_] = (stored >= self.low) & (stored <= self.high)
        if not padded.any():
            return None
        from scipy import ndimage

        labels, count = ndimage.label(padded)
        edge = np.zeros(count + 1, bool)
        for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            edge[side] = True
        corner = np.zeros(count + 1, bool)
        corner[labels[[0, 0, -1, -1], [0, -1, 0, -1]]] = True
        large = np.bincount(labels.ravel(), minlength=count + 1) >= SPECK
        air = edge & (large | corner)
        air[0] = False
        outside: NDArray[np.bool_] = air[labels]
        return outside if outside.any() else None


def padding_of(data_set: Dataset) -> Padding | None:
    """The padding that a file declares, in the signedness of its pixels; None where it declares none."""
    value = integer(data_set, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(data_set, "PixelPaddingRangeLimit")
    bits = integer(data_set, "BitsAllocated") or 16
    signed = integer(data_set, "PixelRepresentation") == 1
    ends = [_as_stored(v, bits, signed) for v in (value, value if limit is None else limit)]
    return Padding(min(ends), max(ends))


def padding_notes(used: Sequence[Padding]) -> tuple[str, ...]:
    """The sentence on padding that was read as air, one item a slice."""
    counts = Counter(map(str, used))
    return tuple(
        f"padding (PixelPaddingValue {value}) connected to the edge of the image was read as air, on {n} slice(s)"
        for value, n in counts.items()
    )


def _as_stored(value: int, bits: int, signed: bool) -> int:
    """A padding value as pixels of the file hold it: VR US and SS are exchanged by many writers."""
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value
