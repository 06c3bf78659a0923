"""Masks of the shapes that converters get wrong, for any grid of at least (8, 24, 20) voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def hard_shapes(shape_kij: tuple[int, int, int]) -> dict[str, Mask]:
    """{name: mask (k, i, j)}"""
    ks, rows, columns = shape_kij
    k, i, j = np.ogrid[:ks, :rows, :columns]
    centre_k, centre_i, centre_j = ks // 2, rows // 2, columns // 2
    r2 = (i - centre_i) ** 2 + (j - centre_j) ** 2 + 0 * k
    big = min(rows, columns) // 2 - 2
    inner = (k >= 1) & (k < ks - 1)

    def nothing() -> Mask:
        return np.zeros(shape_kij, bool)

    shapes: dict[str, Mask] = {
        "Sphere": (k - centre_k) ** 2 * 4 + r2 < big**2,
        "Ellipsoid": 9 * (k - centre_k) ** 2 + 2 * (i - centre_i - 0.3) ** 2 + (j - centre_j + 0.4) ** 2
        < big**2,
        "Annulus": (r2 < big**2) & (r2 > (big // 2) ** 2) & inner,
        "Two": (((i - 5) ** 2 + (j - 5) ** 2 < 9) | ((i - rows + 7) ** 2 + (j - columns + 7) ** 2 < 16))
        & inner,
        "Island": ((r2 < big**2) & (r2 > (big // 2) ** 2) | (r2 < 4)) & inner,
    }
    for name, region in {
        "Line_1": (slice(1, -1), slice(9, 10), slice(3, -3)),
        "Line_2": (slice(1, -1), slice(9, 11), slice(3, -3)),
        "Border": (slice(None), slice(0, 8), slice(4, -4)),
        "Corner": (slice(3, None), slice(-6, None), slice(-5, None)),
        "Everything": (slice(None), slice(None), slice(None)),
        "One": (slice(2, 3), slice(7, 8), slice(8, 9)),
    }.items():
        shapes[name] = nothing()
        shapes[name][region] = True
    for name, width in (("Diagonal_1", 1), ("Diagonal_2", 2)):
        shapes[name] = nothing()
        for t in range(3, min(rows, columns) - 4):
            shapes[name][1:-1, t, t : t + width] = True
    shapes["Single_Slice"] = (r2 < big**2) & (k == 3)
    shapes["Pair"] = nothing()
    shapes["Pair"][2, [7, 8], [8, 9]] = True
    shapes["One_Hole"] = (r2 < big**2) & inner
    shapes["One_Hole"][:, centre_i, centre_j] = False
    rng = np.random.default_rng(7)
    shapes["Speckle"] = shapes["Sphere"] & (rng.random(shape_kij) < 0.8)
    shapes["Noise"] = rng.random(shape_kij) < 0.5
    shapes["Noise"][5:] = False
    return shapes
