"""A label map of a pelvis made of balls and tubes, small enough for tests; positions in mm, axes head, back, left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contour_ai.sample.synthesis.label_maps import LabelMap

SHAPE = (76, 44, 70)
SPACING = (4.0, 5.0, 5.0)
HEADS_MM = {"left": np.array([110.0, 110.0, 262.0]), "right": np.array([110.0, 110.0, 83.0])}
PROSTATE_MM, PROSTATE_RADIUS = (92.0, 105.0, 172.5), 20.0
SIGMOID_JOINS_MM = 170.0


def drawn_label_map(name: str = "drawn") -> LabelMap:
    """Hips, femora, sacrum, gluteal muscles, prostate, bladder, and a colon whose lower end is a straight rectum."""
    k, i, j = np.meshgrid(*(np.arange(n) * mm for n, mm in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    labels = np.zeros(SHAPE, np.uint8)
    names: list[str] = []

    def paint(structure: str, inside: NDArray[np.bool_]) -> None:
        if structure not in names:
            names.append(structure)
        labels[inside] = names.index(structure) + 1

    def ball(centre: object, radius: float) -> NDArray[np.bool_]:
        a, b, c = np.asarray(centre)
        inside: NDArray[np.bool_] = (k - a) ** 2 + (i - b) ** 2 + (j - c) ** 2 < radius**2
        return inside

    for side, sign in (("left", 1), ("right", -1)):
        head = HEADS_MM[side]
        across = sign * (j - head[2])
        paint(
            f"gluteus_maximus_{side}",
            (np.abs(k - 120) < 90) & (np.abs(i - 175) < 18) & (np.abs(across + 20) < 45),
        )
        hip = ball(head, 38) & (across < 12) | (np.abs(k - 150) < 80) & (np.abs(i - 115) < 25) & (
            np.abs(across + 25) < 9
        )
        paint(f"hip_{side}", hip)
        shaft = (k < head[0]) & (np.hypot(i - 110, across - 38) < 15)
        neck = ball(head + np.array([-14, 0, 20 * sign]), 17)
        paint(f"femur_{side}", ball(head, 25) | neck | shaft)
    paint("sacrum", (k > 130) & (k < 230) & (np.abs(i - 180) < 14) & (np.abs(j - 172.5) < 45))
    paint("vertebrae_L5", (k >= 230) & (np.abs(i - 160) < 22) & (np.abs(j - 172.5) < 25))
    paint("urinary_bladder", ball((140.0, 95.0, 172.5), 36))
    paint("prostate", ball(PROSTATE_MM, PROSTATE_RADIUS))
    rectum = (k > 84) & (k < SIGMOID_JOINS_MM) & (np.hypot(i - 145, j - 172.5) < 15)
    sigmoid = (k >= SIGMOID_JOINS_MM) & (k < 200) & (np.hypot(i - 120, j - 185) < 34)
    paint("colon", (rectum | sigmoid) & (labels == 0))
    paint("small_bowel", (np.abs(k - 235) < 30) & (np.hypot(i - 95, j - 172.5) < 45))
    return LabelMap(name=name, labels=labels, names=tuple(names), spacing_mm_kij=SPACING, sha256="0" * 64)
