"""Contours as bytes of a structure set: ContourData without a digit too many, and the sequence that holds it.

Written element by element here, because pydicom would take longer for its items than all the rest takes together.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from contour_ai.dicom.tags import ITEM
from contour_ai.grid import Grid
from contour_ai.polygons import Polygon

ROUNDING_VOXELS = 0.01
"""Largest error of a written coordinate in voxels. Outlines keep at least 0.035 voxel from every centre (see
`polygons.CLEARANCE`), so no centre can change sides."""


EncodedContour = tuple[int, bytes, int]
"""(slice k, ContourData, number of points)"""


class CoordinateText:
    """Slice coordinates as the text of ContourData: x\\y\\z of every point in mm, no digit more than needed.

    Args:
        decimals: at least so many; None for as few as exactness allows on this grid.
    """

    def __init__(self, grid: Grid, decimals: int | None) -> None:
        self.grid = grid
        steps = np.abs(np.array([grid.step_i_lps, grid.step_j_lps]))
        self.constant = (steps < 1e-6 * steps.max()).all(axis=0)
        smallest = min(grid.spacing_mm[1:])
        directions = max(1, int((steps > 1e-6 * steps.max()).sum(axis=1).max()))
        needed = math.ceil(-math.log10(2 * ROUNDING_VOXELS * smallest / math.sqrt(directions)))
        # Where no component is the same all over a slice, rounding also moves points out of their plane: 3 decimals.
        needed = max(needed, 2 if self.constant.any() else 3)
        self.decimals = needed if decimals is None else max(decimals, needed)
        self.text = _TextOfTicks(self.decimals)
        # Half a unit of the last decimal: what lies on the image's edge stays inside it when rounded.
        self.inset = 0.5 * 10**-self.decimals * math.sqrt(directions) / smallest
        self.last = np.array(grid.shape_kij[1:]) - 0.5

    def __call__(self, slices: Mapping[int, Sequence[Polygon]]) -> list[EncodedContour]:
        """All contours of a ROI, slice by slice; those without points are left out."""
        contours = [(k, p) for k in sorted(slices) for p in slices[k] if len(p)]
        if not contours:
            return []
        lengths = np.array([len(p) for _, p in contours])
        ends = np.cumsum(lengths)
        points = self._inset(np.concatenate([p for _, p in contours]), ends - lengths, lengths)
        origins = self.grid.positions_lps[[k for k, _ in contours]]
        lps = points[:, :1] * self.grid.step_i_lps + points[:, 1:] * self.grid.step_j_lps
        ticks = np.rint((np.repeat(origins, lengths, axis=0) + lps) * 10**self.decimals).astype(np.int64)
        parts: list[bytes] = [b""] * (3 * len(points))
        for c in range(3):
            if self.constant[c]:
                of_slice = [_shortest(value) for value in origins[:, c].tolist()]
                parts[c::3] = [of_slice[n] for n in np.repeat(np.arange(len(contours)), lengths).tolist()]
            else:
                parts[c::3] = map(self.text.__getitem__, ticks[:, c].tolist())
        return [
            (k, b"\\".join(parts[3 * (end - len(p)) : 3 * end]), len(p))
            for (k, p), end in zip(contours, ends.tolist(), strict=True)
        ]

    def _inset(self, points: Polygon, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Polygon:
        """Points of contours that lie in the image, so that they still do when rounded; others as they are."""
        inside = ((points >= -0.5) & (points <= self.last)).all(axis=1)
        whole = np.repeat(np.logical_and.reduceat(inside, starts), lengths)
        return np.where(whole[:, None], np.clip(points, self.inset - 0.5, self.last - self.inset), points)


class _TextOfTicks(dict[int, bytes]):
    """The text of `tick` / 10 ** decimals, worked out once for each: contours meet the same columns again and again."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self.decimals = decimals

    def __missing__(self, tick: int) -> bytes:
        whole, part = divmod(abs(tick), 10**self.decimals)
        text = f"{whole}.{part:0{self.decimals}d}".rstrip("0").rstrip(".") if self.decimals else str(whole)
        self[tick] = (text if tick >= 0 else "-" + text).encode("ascii")
        return self[tick]


def _shortest(value: float) -> bytes:
    """A slice's own coordinate to the nanometre, which fits the 16 characters of a DS."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return b"0" if text == "-0" else text.encode("ascii")


# -- elements ----------------------------------------------------------------------------------------------------


def roi_contour_item(
    number: int,
    color: Sequence[int],
    contours: Iterable[EncodedContour],
    images: Sequence[bytes],
    *,
    explicit: bool,
) -> bytes:
    """The item of one ROI in ROIContourSequence, little endian; without ContourSequence where it has no contours.

    Args:
        images: of every slice what `image_item` gives, empty where it has no UID: there the plane alone says where a
            contour belongs.
        explicit: whether the file states value representations.
    """
    items = [
        _item(
            b"".join(
                (
                    _element(0x30060016, b"SQ", images[k], explicit) if images[k] else b"",
                    _element(0x30060042, b"CS", b"CLOSED_PLANAR", explicit),
                    _element(0x30060046, b"IS", b"%d" % points, explicit),
                    _element(0x30060048, b"IS", b"%d" % n, explicit),
                    _element(0x30060050, b"DS", data, explicit),
                )
            )
        )
        for n, (k, data, points) in enumerate(contours, start=1)
    ]
    return _item(
        _element(0x3006002A, b"IS", b"\\".join(b"%d" % c for c in color), explicit)
        + (_element(0x30060040, b"SQ", b"".join(items), explicit) if items else b"")
        + _element(0x30060084, b"IS", b"%d" % number, explicit)
    )


def image_item(reference: Dataset, *, explicit: bool) -> bytes:
    """An item of ContourImageSequence: UIDs and numbers only."""
    elements = (
        _element(int(e.tag), str(e.VR).encode("ascii"), str(e.value).encode("ascii"), explicit)
        for e in reference
    )
    return _item(b"".join(elements))


def _element(tag: int, vr: bytes, value: bytes, explicit: bool) -> bytes:
    """One element (PS3.5 7.1), padded to an even length."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if explicit and vr == b"SQ":
        return start + struct.pack("<2sHL", vr, 0, len(value)) + value
    if explicit:
        return start + struct.pack("<2sH", vr, len(value)) + value
    return start + struct.pack("<L", len(value)) + value


def _item(content: bytes) -> bytes:
    return struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, len(content)) + content
