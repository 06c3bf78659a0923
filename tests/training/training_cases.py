"""Small prepared patients: a body with a bright ball on either side and a dark one behind."""

from __future__ import annotations

import numpy as np

from contour_ai.training.cache import Case

ROIS = ("Parotid_L", "Parotid_R", "Brainstem")


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """(k, i, j) bool."""
    grid = np.indices(shape).reshape(3, -1).T - np.array(centre)
    return ((grid**2).sum(axis=1) <= radius**2).reshape(shape)


def case(seed: int, shape: tuple[int, int, int] = (20, 24, 28), presence=(True, True, True)) -> Case:
    """One patient; the left and the right ball differ in brightness only through their side."""
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-1.5, 1.5, 3)
    middle = (np.array(shape) - 1) / 2 + shift
    hu = np.full(shape, -1024, np.int16)
    body = ball(shape, tuple(middle), min(shape) * 0.48)
    hu[body] = rng.normal(0, 15, shape)[body]
    bits = np.zeros(shape, np.uint8)
    for r, (offset, value) in enumerate((((0, 0, 5), 120), ((0, 0, -5), 120), ((0, 4, 0), -120))):
        mask = ball(shape, tuple(middle + offset), 2.6)
        hu[mask] = value
        if presence[r]:
            bits[mask] |= 1 << r
    return Case(
        patient_id=f"patient-{seed}",
        image=hu,
        labels=bits,
        rois=ROIS,
        presence=tuple(presence),
        spacing_mm_kij=(4.0, 4.0, 4.0),
    )
