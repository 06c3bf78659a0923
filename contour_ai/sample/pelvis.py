"""Draws the male-pelvis phantom. Millimetres: z = 0 at the prostate, x = 0 in the midline, y towards the back."""

from __future__ import annotations

import numpy as np

from contour_ai.sample.shapes import (
    Canvas,
    Field,
    Points,
    RandomDraws,
    Triple,
    blend,
    both,
    capsule,
    ellipsoid,
    moved,
    ramp,
    sheets,
    tube,
    union,
)

ROIS = ("External", "Prostate", "Bladder", "Rectum", "Femur_Head_L", "Femur_Head_R")
"""In the order of the structure set."""

EXTENT_MM = (-95.0, 115.0)
"""What the scan shows of the standard patient."""

SIDES = ((1, "L"), (-1, "R"))
RECTUM_MM = (-34.0, 68.0)
"""Lower and upper end of the contoured rectum: the anal canal and the sigmoid go on beyond."""


def draw(p: Points, canvas: Canvas, draws: RandomDraws) -> None:
    """Paints a patient on the canvas, at the points `p`: head first, supine."""
    q = moved(p, draws, bend_mm=2.0, turn_deg=(4.0, 3.0, 4.0), scale=0.04)
    skin = _skin(q, draws)
    canvas.paint(skin, -102 + draws.waves(q, 6, (15, 40)), "External")
    canvas.paint(both(skin, -2.5 - skin), 5)
    canvas.within = skin + 2
    _muscles(q, skin, canvas, draws)
    cavity = _cavity(q, canvas, draws)
    _bones(q, canvas, draws)
    _bowel(q, cavity, canvas, draws)
    _rectum(q, canvas, draws)
    _bladder_and_prostate(q, canvas, draws)
    canvas.within = None
    _couch(p, skin, canvas, draws)


def _skin(q: Points, draws: RandomDraws) -> Field:
    z = q.z
    half_x, half_y = draws.about(176, 9), draws.about(108, 7)
    waist = ramp(z, (-60, 1.0), (0, 1.02), (60, 0.97), (110, 0.93))
    trunk = both(tube(q, 0, 0, half_x * waist, half_y * ramp(z, (-65, 0.9), (-25, 1))), -58 - z)
    legs = union(*(tube(q, side * 0.5 * half_x, 2, 0.485 * half_x, 0.9 * half_y) for side, _ in SIDES))
    return blend(trunk, both(legs, z - 20), 30)


def _muscles(q: Points, skin: Field, canvas: Canvas, draws: RandomDraws) -> None:
    x, y, z = q
    fat_mm = draws.about(20, 4)
    meat = 55 + draws.waves(q, 4, (18, 50))
    fat = -95 + draws.waves(q, 7, (15, 40))
    inner = skin + fat_mm * (1 + 0.35 * np.clip(y / 80, -1, 1)) + draws.waves(q, 2.5, (50, 120))
    canvas.paint(inner, meat)
    canvas.paint(both(sheets(q, draws, 3, 24), inner + 2), -50)
    for side, _ in SIDES:
        gluteal = capsule(q, (side * 40, 70, 90), (side * 110, 45, -20), 4)
        canvas.paint(both(gluteal, inner + 4), fat)
        behind_hip = capsule(q, (side * 62, 48, -10), (side * 95, 42, 25), 11)
        canvas.paint(both(behind_hip, inner + 6), fat)
        groin = capsule(q, (side * 58, -62, -80), (side * 78, -66, 60), 11)
        canvas.paint(both(groin, inner + 3), fat)
        artery, vein = (capsule(q, (side * a, -60, -90), (side * (a + 6), -40, 110), 5.5) for a in (56, 68))
        canvas.paint(both(union(artery, vein), inner), 75)
    canvas.paint(both(np.abs(x) - 2, y - 40, inner, -30 - z), fat)


def _cavity(q: Points, canvas: Canvas, draws: RandomDraws) -> Field:
    """Fat between the organs of the true pelvis, bounded by the obturator and levator muscles."""
    z = q.z
    wide = ramp(z, (-45, 14), (-10, 31), (25, 54), (70, 68), (115, 88))
    cavity = both(
        tube(q, 0, ramp(z, (-40, 20), (0, 14), (110, -4)), wide, ramp(z, (-45, 34), (20, 58), (110, 66))),
        -46 - z,
    )
    canvas.paint(cavity, -88 + draws.waves(q, 12, (14, 40)))
    return cavity


def _bones(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    x = q.x
    marrow = 230 + draws.waves(q, 60, (10, 30))
    bones = []
    hips = []
    radius = draws.about(24.5, 1.3)
    for side, letter in SIDES:
        hip = draws.near((side * 90, 0, 24), 1.5)
        bones += _hip_bone(q, side, hip)
        hips.append((letter, hip, radius * draws.about(1, 0.01), side))
    sacrum = both(ellipsoid(q, (0, 80, 85), (50, 19, 48)), (np.abs(x) - 50) * 0.8)
    sacrum = union(sacrum, ellipsoid(q, (0, 84, 34), (13, 7, 26)))
    pelvis = union(sacrum, *bones)
    canvas.paint(pelvis, 720)
    canvas.paint(pelvis + 3.5, marrow)
    canvas.paint(ellipsoid(q, (0, 92, 85), (8, 6, 50)), 30)
    canvas.paint(both(np.abs(x) - 2.2, ellipsoid(q, (0, -48, 6), (12, 14, 24))), 90)
    for letter, hip, radius, side in hips:
        _femur(q, letter, hip, radius, side, canvas, draws)


def _hip_bone(q: Points, side: int, hip: Triple) -> list[Field]:
    """Socket, wing, sitting bone and pubic bone of one side."""
    x, y, z = q
    socket = both(ellipsoid(q, hip, (38, 37, 38)), side * (x - hip[0]) - 6, -14 - (z - hip[2]))
    wing = np.abs(ellipsoid(q, (side * 30, -2, 118), (100, 78, 100))) - 6
    wing = both(wing, 44 - side * x, hip[2] + 26 - z, np.abs(y - 6) - 62)
    column = capsule(q, (side * 84, 14, 60), (side * 92, 8, 40), 16)
    ischium = union(
        capsule(q, (side * 84, 26, 8), (side * 62, 36, -46), 13),
        capsule(q, (side * 60, 32, -48), (side * 14, -36, -14), 7),
    )
    pubis = union(
        capsule(q, (side * 74, -18, 18), (side * 18, -46, 12), 9),
        capsule(q, (side * 12, -48, 14), (side * 11, -46, -8), 10),
    )
    return [socket, wing, column, ischium, pubis]


def _femur(
    q: Points, letter: str, hip: Triple, radius: float, side: int, canvas: Canvas, draws: RandomDraws
) -> None:
    z = q.z
    hx, hy, hz = hip
    trochanter = (hx + side * 42, hy + 10, hz - 26)
    head = ellipsoid(q, hip, (radius, radius, radius))
    canvas.paint(head - 4, 45)
    neck = capsule(q, hip, trochanter, 14.5)
    top = ellipsoid(q, (trochanter[0] + side * 4, trochanter[1], trochanter[2] + 4), (17, 18, 24))
    shaft = both(
        tube(q, trochanter[0] + side * ramp(z, (-95, -10), (0, 0)), trochanter[1], 16, 16), z - trochanter[2]
    )
    rest = blend(blend(neck, top, 8), shaft, 8)
    canvas.paint(rest, 850)
    canvas.paint(rest + 5, ramp(z, (-70, -20), (0, 190)) + draws.waves(q, 30, (10, 30)))
    canvas.paint(head, 640, f"Femur_Head_{letter}")
    canvas.paint(head + 3.5, 370 + draws.waves(q, 30, (10, 30)))


def _bowel(q: Points, cavity: Field, canvas: Canvas, draws: RandomDraws) -> None:
    y = q.y
    for _ in range(9):
        start: Triple = (draws.between(-55, 55), draws.between(-55, 15), draws.between(82, 125))
        end: Triple = (
            start[0] + draws.between(-40, 40),
            start[1] + draws.between(-25, 25),
            draws.between(85, 130),
        )
        radius = draws.between(8, 14)
        loop = both(capsule(q, start, end, radius), cavity)
        canvas.paint(loop, 48)
        canvas.paint(loop + 4, draws.between(5, 30))
        if draws.between(0, 1) < 0.4:
            canvas.paint(both(loop + 5, y - start[1] + 2), -850)


def _rectum(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    z = q.z
    low, high = (end + draws.about(0, 2) for end in RECTUM_MM)
    sway = draws.about(0, 4)
    centre_x = sway * np.sin((z - low) / (high - low) * np.pi)
    centre_y = ramp(z, (-60, 34), (-30, 38), (-10, 46), (30, 52), (60, 42), (75, 26))
    full = draws.about(1, 0.12)
    radius = ramp(z, (-40, 11), (-25, 14), (5, 18 * full), (35, 19 * full), (70, 15))
    wall = tube(q, centre_x, centre_y, radius * draws.about(1.08, 0.05), radius)
    wall = wall + draws.waves(q, 1.2, (25, 50))
    anus = both(tube(q, 0, centre_y, 13, 15), z - low, -75 - z)
    canvas.paint(anus, 62)
    sigmoid = capsule(
        q, (centre_at(z, centre_x, high), 30, high + 6), (draws.between(-45, 45), -5, high + 26), 14
    )
    canvas.paint(sigmoid, 45)
    canvas.paint(sigmoid + 5, 15)
    rectum = both(wall, low - z, z - high)
    canvas.paint(rectum, 46 + draws.waves(q, 3, (12, 30)), "Rectum")
    stool = draws.between(5, 35)
    canvas.paint(rectum + 4.5, stool + draws.waves(q, 12, (8, 20)))
    for _ in range(int(draws.between(0, 4))):
        height = draws.between(low + 12, high - 12)
        level = float(np.interp(height, (-60, -30, -10, 30, 60, 75), (34, 38, 46, 52, 42, 26)))
        gas = ellipsoid(
            q, (0, level - 4, height), (draws.between(6, 12), draws.between(5, 9), draws.between(8, 18))
        )
        canvas.paint(both(gas, rectum + 4), -900)


def centre_at(z: Field, centre: Field, height: float) -> float:
    """The value of a field of z near one height."""
    return float(centre.flat[int(np.abs(z - height).argmin())])


def _bladder_and_prostate(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    size = draws.scaled((24, 18, 20), 0.1)
    centre = draws.near((0, 8, 0), 1.5)
    gland = ellipsoid(q, centre, size) + draws.waves(q, 0.8, (20, 45))
    canvas.paint(gland - 5, -25)
    for side, _ in SIDES:
        vesicle = capsule(q, (side * 4, 24, centre[2] + 20), (side * 28, 28, centre[2] + 30), 6)
        canvas.paint(vesicle, 32)
    fill = draws.about(1, 0.1)
    across, deep, high = 42 * fill, 31 * fill, 29 * fill * draws.about(1, 0.1)
    middle = (draws.about(0, 2), draws.about(-14, 2), centre[2] + size[2] + high - 7)
    bladder = both(ellipsoid(q, middle, (across, deep, high)) + draws.waves(q, 1.5, (40, 80)), -(gland - 0.5))
    canvas.paint(bladder, 42, "Bladder")
    canvas.paint(bladder + 4, 6)
    canvas.paint(gland, 52 + draws.waves(q, 5, (10, 25)), "Prostate")
    bulb = ellipsoid(q, (0, 8, centre[2] - size[2] - 16), (11, 14, 9))
    canvas.paint(bulb, 60)
    # The organs do not overlap: what the bladder pushes aside is no longer rectum.
    canvas.rois["Rectum"] &= ~(canvas.rois["Prostate"] | canvas.rois["Bladder"])


def _couch(p: Points, skin: Field, canvas: Canvas, draws: RandomDraws) -> None:
    """A carbon-fibre couch with a foam core under a thin mattress."""
    x, y = p.x, p.y
    back = float(y[skin < 0].max())
    top = back + draws.between(6, 10)
    slab = both(np.abs(x) - 205, np.abs(y - top - 11) - 11 + (x / 205) ** 2 * 5)
    canvas.paint(both(slab, 5 - skin), 120)
    canvas.paint(both(slab + 4.5, 5 - skin), -930)
