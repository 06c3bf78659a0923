"""Weights that carry samples along one axis to other positions.

Along each axis the samples are read as a piecewise linear function, and going to coarser voxels that function is
averaged over a box centred on the new voxel. Both steps keep a linear function as it is for any positions of the
samples, so nothing shifts by a fraction of a voxel, in unequally spaced and sheared stacks either. On the way back
to the CT, where the surface of a ROI passes, pieces are cubic instead: straight ones round off what is one or two
voxels wide.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

NARROW = 1e-3
"""A box narrower than this share of the sample spacing averages nothing; interpolating is exact there."""


def axis_weights(
    samples_mm: Float,
    targets_mm: Float,
    *,
    target_mm: float,
    sample_mm: float,
    outside: Literal["edge", "zero"],
) -> Float32:
    """(targets, samples) weights that carry samples along one axis to target positions.

    The samples are joined by straight lines and averaged over a box of width sqrt(target_mm^2 - gap^2) around
    each target, where `gap` is the distance of the samples there: nothing is averaged on the way up, all
    samples of a target voxel count on the way down. Half a gap beyond the first and the last sample the
    function goes on with their value; farther out with the same value ("edge") or with 0 ("zero").

    Args:
        samples_mm: ascending positions of the samples, not necessarily equidistant.
        targets_mm: positions in any order.
        target_mm: distance of the targets (0 to interpolate only).
        sample_mm: what to take for the gap where there is a single sample.
        outside: see above.
    """
    gaps = np.diff(samples_mm) if len(samples_mm) > 1 else np.array([sample_mm])
    cell = np.clip(np.searchsorted(samples_mm, targets_mm, side="right") - 1, 0, len(gaps) - 1)
    width = np.sqrt(np.clip(target_mm**2 - gaps[cell] ** 2, 0, None))
    width = np.where(width > NARROW * gaps[cell], width, 0.0)
    low, high = samples_mm[0] - gaps[0] / 2, samples_mm[-1] + gaps[-1] / 2
    if outside == "edge":
        reach = width.max(initial=0.0) + 1.0
        low, high = min(low, targets_mm.min() - reach), max(high, targets_mm.max() + reach)
    weights = np.empty((len(targets_mm), len(samples_mm)))
    points = width == 0
    weights[points] = _hats(samples_mm, low, high, targets_mm[points])
    t, w = targets_mm[~points], width[~points]
    upper = _hat_integrals(samples_mm, low, high, t + w / 2)
    weights[~points] = (upper - _hat_integrals(samples_mm, low, high, t - w / 2)) / w[:, None]
    return weights.astype(np.float32)


def _hats(p: Float, low: float, high: float, x: Float) -> Float:
    """(x, p) value at x of the function that is 1 at one sample, 0 at the others; flat to low and high."""
    weights = np.zeros((len(x), len(p)))
    rows = np.arange(len(x))
    if len(p) == 1:
        weights[:, 0] = 1.0
    else:
        cell = np.clip(np.searchsorted(p, x, side="right") - 1, 0, len(p) - 2)
        t = np.clip((x - p[cell]) / (p[cell + 1] - p[cell]), 0.0, 1.0)
        weights[rows, cell] = 1 - t
        weights[rows, cell + 1] += t
    weights[(x < low) | (x > high)] = 0.0
    return weights


def _hat_integrals(p: Float, low: float, high: float, x: Float) -> Float:
    """(x, p) integral from -infinity to x of the functions of `_hats`."""
    x = x[:, None]
    total = np.empty((x.shape[0], len(p)))
    gaps = np.diff(p)
    total[:, 1:] = (np.clip(x, p[:-1], p[1:]) - p[:-1]) ** 2 / (2 * gaps)
    total[:, :1] = np.clip(x, low, p[0]) - low
    total[:, :-1] += (gaps**2 - (p[1:] - np.clip(x, p[:-1], p[1:])) ** 2) / (2 * gaps)
    total[:, -1:] += np.clip(x, p[-1], high) - p[-1]
    return total


def cubic_weights(samples_mm: Float, targets_mm: Float) -> Float32:
    """(targets, samples) weights of cubic convolution with a = -1/2, which keeps straight lines and parabolas.

    The outermost pieces go on as if the next sample lay on the straight line through the last two; beyond the last
    sample its value stays.

    Args:
        samples_mm: ascending, equidistant.
        targets_mm: positions in any order.

    Source: Keys, 1981 (see `resample_logits_to_ct`).
    """
    n = len(samples_mm)
    if n == 1:
        return np.ones((len(targets_mm), 1), np.float32)
    # One sample more at each end, on the straight line through the last two.
    weights = np.zeros((len(targets_mm), n + 2))
    x = np.clip((targets_mm - samples_mm[0]) / (samples_mm[1] - samples_mm[0]), 0.0, n - 1.0)
    cell = np.minimum(x.astype(int), n - 2)
    t = x - cell
    pieces = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (-(t**2) + t**3) / 2,
    )
    for place, values in enumerate(pieces):
        weights[np.arange(len(x)), cell + place] = values
    kept = weights[:, 1:-1].copy()
    kept[:, 0] += 2 * weights[:, 0]
    kept[:, 1] -= weights[:, 0]
    kept[:, -1] += 2 * weights[:, -1]
    kept[:, -2] -= weights[:, -1]
    return kept.astype(np.float32)
