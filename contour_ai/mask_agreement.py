"""How much two masks have in common: the one Dice similarity coefficient of the package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_], *, neither: float) -> float:
    """2 |A and B| / (|A| + |B|) by voxels.

    Args:
        a: (k, i, j).
        b: of the same grid.
        neither: the answer where both are empty. NaN where a figure must not count then, 1 where two answers are
            compared that ought to be equal, 0 where an organ is looked for.
    """
    both = int(np.count_nonzero(np.logical_and(a, b)))
    return dice_of_sizes(both, int(np.count_nonzero(a)), int(np.count_nonzero(b)), neither=neither)


def dice_of_sizes(both: float, a: float, b: float, *, neither: float) -> float:
    """The same of sizes: of what lies in both, in A and in B, in voxels, volumes or sums of probabilities."""
    return 2 * both / (a + b) if a + b else neither
