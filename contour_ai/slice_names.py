"""How slices are named to people: by number from 1 along the slice normal, with their position in mm."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from contour_ai.grid import Grid

RUNS_NAMED = 6
"""Runs of slices that a sentence names; of more it names the first ones and ends in dots."""


def slice_text(grid: Grid, k: int) -> str:
    """Slice `k` (index from 0) as in "slice 12 (z = -14.0 mm)"."""
    return slices_text(grid, [k])


def slices_text(grid: Grid | None, ks: Iterable[int]) -> str:
    """Slices `ks` (indices from 0) as in "slices 3-7, 12 (z = -14.0 to +4.5 mm)"; long lists end in dots.

    Args:
        grid: of the CT: where the slices lie is added, in the middle of their images, along the patient's axis (x, y
            or z of LPS) that they follow each other along. None names the numbers only.
    """
    numbers = sorted({int(k) + 1 for k in ks})
    if not numbers:
        return "no slice"
    breaks = [0, *(n + 1 for n, (a, b) in enumerate(itertools.pairwise(numbers)) if b > a + 1), len(numbers)]
    runs = [(numbers[a], numbers[b - 1]) for a, b in itertools.pairwise(breaks)]
    words = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:RUNS_NAMED]]
    words += ["..."] if runs[RUNS_NAMED:] else []
    where = "" if grid is None else f" ({_positions(grid, numbers[0] - 1, numbers[-1] - 1)})"
    return f"slice{'s' if len(numbers) > 1 else ''} {', '.join(words)}{where}"


def _positions(grid: Grid, first: int, last: int) -> str:
    axis = int(np.abs(grid.normal).argmax())
    _, rows, columns = grid.shape_kij
    middles = [[k, (rows - 1) / 2, (columns - 1) / 2] for k in (first, last)]
    ends = sorted(float(mm) for mm in grid.index_to_lps(middles)[:, axis])
    return f"{'xyz'[axis]} = {' to '.join(dict.fromkeys(f'{mm:+.1f}' for mm in ends))} mm"
