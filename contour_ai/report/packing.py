"""CT, contours and surfaces packed for a web page: small, quick to unpack in a browser, with a stated error."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contour_ai.cores import available_cores
from contour_ai.polygons import Polygon
from contour_ai.surfaces import Mesh

UInt8 = NDArray[np.uint8]

BUDGET_BYTES = 10_500_000
"""Of a packed CT before base64, which makes it a third larger: the whole page stays below 15 MB."""

STEPS_HU = (4.0, 6.0, 8.0, 12.0, 16.0)
"""Width of a grey level in soft tissue; the first that fits the budget is taken."""

BANDS = ((-950.0, -250.0, 8), (-250.0, 350.0, 1), (350.0, 1550.0, 5), (1550.0, 3100.0, 26))
"""From HU, to HU, and how much wider than in soft tissue a level is there. Below the first, all is air: one level."""

AIR_HU = -1000.0
LOWEST_PACKED_HU, HIGHEST_PACKED_HU = -1100, 3200
"""What lies beyond looks as these do."""
LARGEST_BINNING = 8
STREAM_VOXELS = 1_000_000
"""About how many voxels go into one stream: few enough that the page shows something soon."""
INT16 = 32767
SUBPIXELS = 16
"""Contour points are rounded to this part of a pixel: a sixteenth is far finer than a screen shows."""
SURFACE_STEP_MM = 0.25
"""Corners of surfaces are rounded to it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedVolume:
    """A CT in grey levels.

    Args:
        streams: zlib streams of `group` slices each (the last of fewer), of every level less the mean of its left and
            upper neighbour in the slice.
        shape_kij: of what is packed; rows and columns are fewer than the CT's by `binning`.
        levels_hu: the HU that each level stands for.
        step_hu: the width of a level in soft tissue; what is shown is at most half of it off there.
        binning: how many rows and columns were averaged into one.
    """

    streams: tuple[bytes, ...]
    group: int
    shape_kij: tuple[int, int, int]
    levels_hu: tuple[float, ...]
    step_hu: float
    binning: int

    @property
    def size_bytes(self) -> int:
        """Of all streams."""
        return sum(map(len, self.streams))

    def to_json(self) -> dict[str, object]:
        """What the page's script needs to unpack the streams."""
        return {
            "shape": list(self.shape_kij),
            "levels": [round(hu, 1) for hu in self.levels_hu],
            "step": self.step_hu,
            "binning": self.binning,
            "group": self.group,
            "lengths": [len(s) for s in self.streams],
        }

    def to_base64(self) -> str:
        """All streams, one after the other."""
        return base64.b64encode(b"".join(self.streams)).decode("ascii")


def pack_volume(hu: NDArray[np.generic], budget_bytes: int = BUDGET_BYTES) -> PackedVolume:
    """Packs a CT (k, i, j) in HU as finely as the budget allows.

    Levels are narrow in soft tissue and wide in lung, bone and metal, so that every window has grey levels enough.
    Where the widest levels are too much still, rows and columns are averaged in twos, fours or eights; the coarsest
    packing is taken whatever its size.
    """
    binning = 1
    while True:
        image = binned(hu, binning)
        for step_hu in STEPS_HU:
            last = binning >= LARGEST_BINNING and step_hu == STEPS_HU[-1]
            if last or _guess_bytes(image, step_hu) <= 1.1 * budget_bytes:
                packed = _packed(image, step_hu, binning)
                if last or packed.size_bytes <= budget_bytes:
                    return packed
        binning *= 2


def binned(hu: NDArray[np.generic], factor: int) -> NDArray[np.generic]:
    """The mean of `factor` x `factor` pixels; the last ones repeated where the number does not divide."""
    if factor == 1:
        return hu
    k, i, j = hu.shape
    padded = np.pad(hu, ((0, 0), (0, -i % factor), (0, -j % factor)), mode="edge")
    blocks = padded.reshape(k, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def level_edges(step_hu: float) -> NDArray[np.float64]:
    """HU at which one level ends and the next begins; at most 255 of them."""
    edges = [BANDS[0][0]]
    for _, to_hu, wider in BANDS:
        while edges[-1] < to_hu:
            edges.append(min(edges[-1] + wider * step_hu, to_hu))
    return np.array(edges)


def level_values(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The HU that each level stands for: its middle."""
    return np.concatenate([[AIR_HU], (edges[:-1] + edges[1:]) / 2, edges[-1:]])


def level_of_hu(edges: NDArray[np.float64]) -> UInt8:
    """The level of every whole HU from `LOWEST_PACKED_HU` to `HIGHEST_PACKED_HU`."""
    return np.digitize(np.arange(LOWEST_PACKED_HU, HIGHEST_PACKED_HU + 1), edges).astype(np.uint8)


def residuals(levels: UInt8) -> UInt8:
    """Of slices (k, i, j): every level less the mean of its left and upper neighbour, modulo 256."""
    left, upper = np.zeros(levels.shape, np.uint16), np.zeros(levels.shape, np.uint16)
    left[:, :, 1:], upper[:, 1:] = levels[:, :, :-1], levels[:, :-1]
    return levels - ((left + upper) >> 1).astype(np.uint8)


def pack_contours(slices: Mapping[int, Sequence[Polygon]]) -> dict[str, object]:
    """{k: polygons in (row, column)} as one zlib stream of 16-bit steps from point to point, and how many each has."""
    highest = max((float(np.abs(p).max()) for polygons in slices.values() for p in polygons), default=0.0)
    subpixels = min(SUBPIXELS, int(INT16 / max(highest, 1.0)))
    order = sorted(k for k, polygons in slices.items() if polygons)
    steps = [
        np.diff(
            np.rint(np.asarray(p) * subpixels).astype(np.int64), axis=0, prepend=np.zeros((1, 2), np.int64)
        )
        for k in order
        for p in slices[k]
    ]
    points = np.concatenate(steps) if steps else np.zeros((0, 2), np.int64)
    # Rows first, then columns: like numbers side by side compress better.
    stream = zlib.compress(np.ascontiguousarray(points.T).astype("<i2").tobytes(), 9)
    return {
        "slices": order,
        "subpixels": subpixels,
        "points": [[len(p) for p in slices[k]] for k in order],
        "data": base64.b64encode(stream).decode("ascii"),
    }


def pack_surface(mesh: Mesh) -> dict[str, object] | None:
    """A surface as one zlib stream of 32-bit steps: x of all corners in `SURFACE_STEP_MM`, y, z, then the triangles'
    corners; None where there is no triangle.
    """
    if not len(mesh.faces):
        return None
    # Corners in the order of the triangles that use them: steps from one to the next are small.
    order = np.full(len(mesh.vertices_lps), -1, np.int64)
    flat = mesh.faces.ravel()
    used, first = np.unique(flat, return_index=True)
    used = used[np.argsort(first)]
    order[used] = np.arange(len(used))
    origin = np.floor(mesh.vertices_lps.min(axis=0))
    places = np.rint((mesh.vertices_lps[used] - origin) / SURFACE_STEP_MM).astype(np.int64)
    parts = [*places.T, order[flat]]
    stream = np.concatenate([np.diff(part, prepend=0) for part in parts]).astype("<i4")
    return {
        "vertices": len(used),
        "faces": len(mesh.faces),
        "origin": origin.tolist(),
        "step": SURFACE_STEP_MM,
        "data": base64.b64encode(zlib.compress(stream.tobytes(), 9)).decode("ascii"),
    }


def _packed(image: NDArray[np.generic], step_hu: float, binning: int) -> PackedVolume:
    edges = level_edges(step_hu)
    k, i, j = image.shape
    group = max(1, STREAM_VOXELS // (i * j))
    parts = [image[start : start + group] for start in range(0, k, group)]
    # Compressing happens outside the interpreter's lock: threads are enough.
    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        streams = tuple(pool.map(lambda part: _stream(part, edges), parts))
    return PackedVolume(
        streams=streams,
        group=group,
        shape_kij=(k, i, j),
        levels_hu=tuple(level_values(edges).tolist()),
        step_hu=step_hu,
        binning=binning,
    )


def _guess_bytes(image: NDArray[np.generic], step_hu: float) -> float:
    """About how large the packed image is, from every eighth slice."""
    edges = level_edges(step_hu)
    some = image[len(image) // 16 :: 8]
    return len(_stream(some, edges)) / len(some) * len(image)


def _stream(slices: NDArray[np.generic], edges: NDArray[np.float64]) -> bytes:
    levels = level_of_hu(edges)[
        np.clip(np.rint(slices), LOWEST_PACKED_HU, HIGHEST_PACKED_HU).astype(np.int64) - LOWEST_PACKED_HU
    ]
    # Noise repeats nothing but runs: looking for more costs time and gains nothing.
    compressor = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return compressor.compress(residuals(levels).tobytes()) + compressor.flush()
