"""CT stacks of every geometry that clinics have, and where one voxel of each lies, worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from synthetic import Stack, axial, tilted

COS15, SIN15 = 0.9659258262890683, 0.25881904510252074
SHAPE = (30, 26)


@dataclass(frozen=True)
class Geometry:
    """A stack, and for one voxel of it (k, i, j) its place in LPS mm, worked out by hand."""

    stack: Stack
    voxel_kij: tuple[int, int, int]
    place_lps: tuple[float, float, float]


def at_heights(*z_mm: float) -> NDArray[np.float64]:
    return np.array([[-20.0, -30.0, z] for z in z_mm])


HEAD_FIRST = axial(12, shape_ij=SHAPE)
MISSING = np.delete(HEAD_FIRST.positions_lps, [3, 4], axis=0)
UNEQUAL_MM = (0, 1.5, 3, 4.6, 8, 12, 16.25, 21.25, 26, 27.1, 30, 34)

# The first voxel lies at (-20, -30, -50); slices are 3 mm apart along row x column, pixels 2 mm unless said otherwise.
GEOMETRIES: dict[str, Geometry] = {
    # x = -20 + 7*2, y = -30 + 5*2, z = -50 + 2*3
    "head first supine": Geometry(HEAD_FIRST, (2, 5, 7), (-6, -20, -44)),
    # x = -20 - 7*2, y = -30 - 5*2; (-x) x (-y) = +z: z = -50 + 2*3
    "head first prone": Geometry(
        tilted((-1, 0, 0), (0, -1, 0), 12, shape_ij=SHAPE), (2, 5, 7), (-34, -40, -44)
    ),
    # (-x) x y = -z: z = -50 - 2*3
    "feet first supine": Geometry(
        tilted((-1, 0, 0), (0, 1, 0), 12, shape_ij=SHAPE), (2, 5, 7), (-34, -20, -56)
    ),
    "feet first prone": Geometry(
        tilted((1, 0, 0), (0, -1, 0), 12, shape_ij=SHAPE), (2, 5, 7), (-6, -40, -56)
    ),
    # columns run to the back or front, rows to the side: x = -20 +- 5*2, y = -30 -+ 7*2
    "decubitus left": Geometry(tilted((0, -1, 0), (1, 0, 0), 12, shape_ij=SHAPE), (2, 5, 7), (-10, -44, -44)),
    "decubitus right": Geometry(
        tilted((0, 1, 0), (-1, 0, 0), 12, shape_ij=SHAPE), (2, 5, 7), (-30, -16, -44)
    ),
    "feet first decubitus": Geometry(
        tilted((0, 1, 0), (1, 0, 0), 12, shape_ij=SHAPE), (2, 5, 7), (-10, -16, -56)
    ),
    # x x (-z) = y: y = -30 + 2*3, z = -50 - 5*2
    "coronal": Geometry(tilted((1, 0, 0), (0, 0, -1), 12, shape_ij=SHAPE), (2, 5, 7), (-6, -24, -60)),
    # y x (-z) = -x: x = -20 - 2*3, y = -30 + 7*2
    "sagittal": Geometry(tilted((0, 1, 0), (0, 0, -1), 12, shape_ij=SHAPE), (2, 5, 7), (-26, -16, -60)),
    # normal (0, -sin, cos): y = -30 + 10 cos - 6 sin, z = -50 + 10 sin + 6 cos
    "oblique by 15 degrees": Geometry(
        tilted((1, 0, 0), (0, COS15, SIN15), 12, shape_ij=SHAPE), (2, 5, 7), (-6, -21.893656, -41.616255)
    ),
    # x = -20 + 7*1.2, y = -30 + 5*0.8
    "pixels of 0.8 x 1.2 mm": Geometry(
        axial(12, shape_ij=SHAPE, spacing_ij_mm=(0.8, 1.2)), (2, 5, 7), (-11.6, -26, -44)
    ),
    # x = -20 + 130*2, y = -30 + 95*2
    "matrix of 100 x 140": Geometry(axial(12, shape_ij=(100, 140)), (2, 95, 130), (240, 160, -44)),
    # the fifth slice lies at z = 8 mm
    "unequal spacing": Geometry(
        replace(HEAD_FIRST, positions_lps=at_heights(*UNEQUAL_MM)), (4, 5, 7), (-6, -20, 8)
    ),
    # slices 3 and 4 of the whole series are not there: z = -50 + 5*3
    "two missing slices": Geometry(replace(HEAD_FIRST, positions_lps=MISSING), (3, 5, 7), (-6, -20, -35)),
    # the table moves along z, the slices lean: y = -30 + 10 cos, z = -50 + 2*3 + 10 sin
    "gantry tilt of 15 degrees": Geometry(
        replace(HEAD_FIRST, column=(0.0, COS15, SIN15)), (2, 5, 7), (-6, -20.340742, -41.411810)
    ),
}
