"""Colours of ROIs that belong together, told apart by everyone: also with deuteranopia and protanopia."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from contour_ai.structures.roi_record import RoiInfo

LEAST_DISTANCE = 7.0
"""CIEDE2000 between two ROIs of a model, to everyone: well above 2, which is just seen side by side."""
STEPS = (0, 64, 128, 192, 255)
"""Red, green and blue of the colours that may be chosen."""
BRIGHT, SATURATED = 190, 85
"""The strongest part of a colour, and how much weaker the weakest is, at least: seen on a grey CT."""
DARKEST_L = 47.0
"""CIELAB lightness."""

VISIONS = (
    np.eye(3),
    np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
)
"""Of linear sRGB: usual, deuteranopia, protanopia (Machado, Oliveira and Fernandes 2009, severity 1)."""


def told_apart(rois: Sequence[RoiInfo]) -> tuple[RoiInfo, ...]:
    """The ROIs with other colours where two of them cannot be told apart.

    A ROI keeps its colour unless it is closer than `LEAST_DISTANCE` to that of one before it; then it gets the colour
    of a fixed set that is farthest from all others. The same ROIs in the same order always get the same colours.
    """
    colors = [roi.color for roi in rois]
    choices = _choices()
    for n in range(len(rois)):
        if not n or _distances([colors[n]], colors[:n]).min() >= LEAST_DISTANCE:
            continue
        others = colors[:n] + colors[n + 1 :]
        nearest = _distances(choices, others).min(axis=1)
        if nearest.max() > _distances([colors[n]], others).min():
            colors[n] = choices[int(nearest.argmax())]
    return tuple(replace(roi, color=color) for roi, color in zip(rois, colors, strict=True))


def _choices() -> list[tuple[int, int, int]]:
    found = [
        (red, green, blue)
        for red, green, blue in product(STEPS, STEPS, STEPS)
        if max(red, green, blue) >= BRIGHT and max(red, green, blue) - min(red, green, blue) >= SATURATED
    ]
    lightness = _seen(found)[0][:, 0]
    return [color for color, light in zip(found, lightness, strict=True) if light >= DARKEST_L]


def _distances(
    some: Sequence[tuple[int, int, int]], others: Sequence[tuple[int, int, int]]
) -> NDArray[np.float64]:
    """(S, O) the least CIEDE2000 of all visions."""
    from skimage.color import deltaE_ciede2000

    distances = []
    for a, b in zip(_seen(some), _seen(others), strict=True):
        distances.append(deltaE_ciede2000(a[:, None], b[None]))  # type: ignore[no-untyped-call]
    return np.min(distances, axis=0)


def _seen(colors: Sequence[tuple[int, int, int]]) -> list[NDArray[np.float64]]:
    """(N, 3) CIELAB of every colour, for each of `VISIONS`."""
    from skimage.color import rgb2lab

    rgb = np.array(colors, dtype=np.float64) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = []
    for vision in VISIONS:
        mixed = (linear @ vision.T).clip(0, 1)
        again = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
        seen.append(rgb2lab(again[None])[0])
    return seen
