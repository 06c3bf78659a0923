"""Draws the head-and-neck phantom. Millimetres: z = 0 at the jaw joints, x = 0 in the midline, y towards the back."""

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
    box,
    capsule,
    ellipsoid,
    moved,
    ramp,
    sheets,
    tube,
)

ROIS = ("External", "Brainstem", "SpinalCord", "Parotid_L", "Parotid_R", "Bone_Mandible", "Larynx")
"""In the order of the structure set."""

EXTENT_MM = (-136.0, 110.0)
"""What the scan shows of the standard patient."""

SIDES = ((1, "L"), (-1, "R"))
FORAMEN_MAGNUM_MM = -26.0


def draw(p: Points, canvas: Canvas, draws: RandomDraws) -> None:
    """Paints a patient on the canvas, at the points `p`: head first, supine."""
    q = moved(p, draws, bend_mm=2.0, turn_deg=(5.0, 4.0, 6.0), scale=0.04)
    skin = _skin(q, draws)
    canvas.paint(skin, -100 + draws.waves(p, 6, (15, 40)), "External")
    canvas.paint(_band(skin, -2.5), 15)
    canvas.within = skin + 2
    _muscles_and_fat(q, skin, canvas, draws)
    _skull_and_brain(q, canvas, draws)
    _cavities(q, canvas, draws)
    _spine(q, canvas, draws)
    jaw = _mandible(q, canvas, draws)
    _glands(q, jaw, canvas, draws)
    _throat(q, canvas, draws)
    canvas.within = None
    _headrest_and_couch(p, skin, canvas, draws)


def _band(skin: Field, inner_mm: float) -> Field:
    """The layer between the skin's surface and `inner_mm` (negative: inside)."""
    return both(skin, inner_mm - skin)


def _skin(q: Points, draws: RandomDraws) -> Field:
    z = q.z
    neck_x, neck_y = draws.about(57, 4), draws.about(58, 4)
    cranium = ellipsoid(q, (0, 8, 35), (77, 97, 80))
    face = ellipsoid(q, (0, -34, -38), (64, 60, 68))
    nose = ellipsoid(q, draws.near((0, -92, -24), 1.5), (12, 17, 18))
    neck = both(
        tube(q, 0, ramp(z, (-140, 28), (-60, 14)), neck_x * ramp(z, (-60, 1), (-25, 1.17)), neck_y), z - 10
    )
    shoulders = ellipsoid(q, (0, 34, draws.about(-192, 6)), (205, 82, 78))
    skin = blend(blend(cranium, face, 18), neck, 22)
    skin = blend(blend(skin, shoulders, 30), nose, 8)
    for side, _ in SIDES:
        ear = ellipsoid(q, draws.near((side * 75, 14, 2), 1), (7, 13, 22))
        skin = blend(skin, ear, 4)
    return skin


def _muscles_and_fat(q: Points, skin: Field, canvas: Canvas, draws: RandomDraws) -> None:
    """Muscle fills the patient inside the fat under the skin; fat planes lie between the muscles of the neck."""
    x, z = q.x, q.z
    fat_mm = draws.between(4, 8)
    muscle = 56 + draws.waves(q, 4, (18, 50))
    canvas.paint(skin + fat_mm + draws.waves(q, 1.5, (30, 80)), muscle)
    fat = -90 + draws.waves(q, 8, (15, 40))
    for side, _ in SIDES:
        sheath = tube(q, side * ramp(z, (-130, 38), (-40, 44)), ramp(z, (-130, 10), (-40, 12)), 17, 22)
        canvas.paint(both(sheath, skin + fat_mm + 2, z + 10), fat)
        strap = ramp(z, (-135, -12), (-20, 24))
        sternomastoid = tube(q, side * ramp(z, (-135, 24), (-20, 58)), strap, 9, 14)
        canvas.paint(both(sternomastoid, skin + 4, z + 12), 60)
        carotid = tube(q, side * 33, ramp(z, (-130, 2), (-20, 10)), 5, 5)
        canvas.paint(both(carotid, z + 15), 85)
        jugular = tube(q, side * 41, ramp(z, (-130, 4), (-20, 16)), 6.5, 5.5)
        canvas.paint(both(jugular, z + 15), 75)
    nape = tube(q, 0, ramp(z, (-130, 62), (-40, 66)), draws.about(34, 3), 22)
    canvas.paint(both(nape, skin + fat_mm, z + 18), 58)
    planes = sheets(q, draws, 2.5, 16)
    canvas.paint(both(planes, skin + fat_mm), -45)
    canvas.paint(both(np.abs(x) - 1.5, nape, skin + fat_mm, z + 20), -60)


def _skull_and_brain(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    x, y, z = q
    floor = 4 - 14 * (1 + np.tanh((y - 18) / 12)) - z
    table = draws.about(7.5, 1)
    vault = ellipsoid(q, (0, 8, 36), (70, 89, 72))
    skull = both(vault, floor - 6)
    canvas.paint(skull, 950 + draws.waves(q, 60, (20, 60)))
    canvas.paint(both(skull + 0.35 * table, -(skull + 0.65 * table)), 520)
    inside = both(vault + table, floor)
    canvas.paint(inside, 12)
    brain = both(inside + 2.5, 1.2 - np.abs(x) * np.where(z > 30, 1, 1e3))
    canvas.paint(brain, 34 + draws.waves(q, 3, (12, 40)))
    canvas.paint(inside + 9, 30 + draws.waves(q, 3, (12, 40)))
    for side, _ in SIDES:
        canvas.paint(ellipsoid(q, draws.near((side * 13, 6, 48), 1.5), (6, 30, 10)), 9)
        petrous = capsule(q, (side * 62, 18, -4), (side * 20, -2, -2), 8)
        canvas.paint(petrous, 900)
        mastoid = ellipsoid(q, draws.near((side * 60, 22, -16), 1.5), (10, 13, 15))
        canvas.paint(mastoid, 350 + draws.waves(q, 250, (10, 20)))
    _brainstem(q, canvas, draws)


def _brainstem(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    y, z = q.y, q.z
    size = draws.about(1, 0.06)
    bulge = ramp(z, (-26, 0.62), (-12, 0.78), (0, 1.12), (10, 1.05), (22, 0.9))
    centre_y = ramp(z, (-26, 28), (0, 16), (24, 8)) + draws.about(0, 1)
    centre_x = draws.about(0, 1)
    top = draws.about(20, 2)
    stem = tube(q, centre_x, centre_y, 15.5 * size * bulge, 13.5 * size * bulge)
    stem = both(stem, z - top, FORAMEN_MAGNUM_MM - z)
    cistern = both(stem - 5, y - centre_y - 4)
    canvas.paint(cistern, 8)
    fourth_ventricle = ellipsoid(q, (centre_x, 33, 0), (8, 5, 10))
    canvas.paint(stem, 62 + draws.waves(q, 2, (10, 30)), "Brainstem")
    canvas.paint(both(fourth_ventricle, -stem), 8)
    canvas.paint(ellipsoid(q, (centre_x, 30, 52), (3, 24, 3)), 15)


def _cavities(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    """Face bones with the sinuses, the nose and the mouth; the eyes."""
    x, y, z = q
    midface = both(ellipsoid(q, (0, -48, -16), (44, 36, 28)), y + 18)
    canvas.paint(midface, 260 + draws.waves(q, 120, (12, 30)))
    for side, _ in SIDES:
        orbit = draws.near((side * 32, -60, 12), 1)
        canvas.paint(ellipsoid(q, orbit, (18, 22, 17)), 600)
        canvas.paint(ellipsoid(q, orbit, (15.5, 24, 14.5)), -85)
        eye = (orbit[0], orbit[1] - 6, orbit[2])
        canvas.paint(ellipsoid(q, eye, (12, 12, 12)), 22)
        canvas.paint(ellipsoid(q, (eye[0], eye[1] - 9, eye[2]), (4.5, 2.5, 4.5)), 95)
        sinus = draws.scaled((12, 14, 14), 0.12)
        canvas.paint(ellipsoid(q, draws.near((side * 26, -52, -18), 1.5), sinus), -960)
        canvas.paint(ellipsoid(q, (side * 7, -58, -16), (4.5, 28, 15)), -880)
    arch = np.abs((np.hypot(x / 27, (y + 38) / 40) - 1) * 30) - 5
    canvas.paint(both(arch, np.abs(z + 42) - 8, y + 32), 1150)
    tongue = ellipsoid(q, draws.near((0, -34, -58), 2), (27, 33, 17))
    canvas.paint(tongue, 64 + draws.waves(q, 5, (12, 30)))
    canvas.paint(ellipsoid(q, (0, -40, -40), (18, 26, draws.between(2, 6))), -800)


def _spine(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    y, z = q.y, q.z
    cord_y = ramp(z, (-140, 44), (-110, 36), (-70, 30), (FORAMEN_MAGNUM_MM, 28)) + draws.about(0, 1)
    below = z - FORAMEN_MAGNUM_MM
    beat = np.cos(2 * np.pi * (z + draws.between(0, 17)) / draws.between(16, 19))
    bone = 330 + draws.waves(q, 50, (12, 40))
    body = tube(q, 0, cord_y - 23, 15, 12)
    canvas.paint(both(body, below + 2), np.where(beat > -0.65, bone, 85))
    ring = both(tube(q, 0, cord_y, 17, 15), below + 2)
    canvas.paint(ring, np.where(beat > -0.8, bone + 150, 60))
    spinous = both(box(q, (0, 0, 0), (5, 400, 400), 1), np.abs(y - cord_y - 24) - 12, below + 10)
    canvas.paint(both(spinous, 0.1 - beat), bone + 100)
    for side, _ in SIDES:
        process = both(tube(q, side * 24, cord_y - 12, 10, 6), below + 6)
        canvas.paint(both(process, -8 * beat), bone)
    canvas.paint(both(tube(q, 0, cord_y, 11.5, 10.5), below - 4), 6)
    size = draws.about(1, 0.05)
    cord = both(tube(q, 0, cord_y, 8.2 * size, 7.6 * size), below)
    canvas.paint(cord, 52, "SpinalCord")


def _mandible(q: Points, canvas: Canvas, draws: RandomDraws) -> Field:
    x, y, z = q
    width, length = draws.about(42, 1.5), draws.about(46, 2)
    height = draws.about(12, 0.8)
    level = ramp(y, (-80, -70), (-30, -64))
    along = (np.hypot(x / width, (y + 30) / length) - 1) * width
    wall = [np.maximum(np.abs(along) - 2.5, 0), np.maximum(np.abs(z - level) - (height - 3), 0)]
    jaw = both(np.hypot(*wall) - 3.5, y + 26)
    for side, _ in SIDES:
        ramus = box(
            Points(x - side * 0.06 * (z + 60), y - 0.12 * (z + 60), z),
            (side * width, -18, -40),
            (5.5, draws.about(14, 1), 36),
            3.5,
        )
        jaw = blend(jaw, ramus, 4)
    canvas.paint(jaw, 1050 + draws.waves(q, 80, (15, 40)), "Bone_Mandible")
    canvas.paint(jaw + 3.5, 480)
    teeth = both(np.abs(along + 0.5) - 3.5, np.abs(z - level - height - 4) - 4, y + 40)
    canvas.paint(both(teeth, -jaw), 1700)
    return jaw


def _glands(q: Points, jaw: Field, canvas: Canvas, draws: RandomDraws) -> None:
    size = draws.scaled((14.5, 21, 26), 0.06)
    for side, letter in SIDES:
        centre = draws.near((side * 54, 9, -32), 1.5)
        radii = draws.scaled(size, 0.03)
        gland = both(ellipsoid(q, centre, radii), 2 - jaw)
        canvas.paint(gland - 3, -70)
        canvas.paint(gland, draws.about(6, 8) + draws.waves(q, 5, (8, 20)), f"Parotid_{letter}")
        submandibular = ellipsoid(q, draws.near((side * 29, -28, -74), 1.5), draws.scaled((9, 14, 11), 0.1))
        canvas.paint(both(submandibular, 2 - jaw), 38)


def _throat(q: Points, canvas: Canvas, draws: RandomDraws) -> None:
    y, z = q.y, q.z
    canvas.paint(ellipsoid(q, (0, -12, -26), (11, 9, 20)), -980)
    pharynx = tube(q, 0, ramp(z, (-85, -14), (-40, -8)), 12, ramp(z, (-85, 5), (-40, 7)))
    canvas.paint(both(pharynx, z + 36, -88 - z), -980)
    centre: Triple = (0, draws.about(-17, 1), draws.about(-98, 2))
    size = draws.about(1, 0.05)
    halves = (21 * size, 19 * size, 21 * size)
    rounded = [(a - c) / h for a, c, h in zip(q, centre, halves, strict=True)]
    larynx = (sum(np.abs(r) ** 3 for r in rounded) ** (1 / 3) - 1) * 19
    larynx = both(larynx, y - centre[1] - 15 * size)
    canvas.paint(larynx - 4, -40)
    canvas.paint(larynx, 150 + draws.waves(q, 25, (8, 25)), "Larynx")
    canvas.paint(larynx + 5, 48)
    gullet = tube(q, ramp(z, (-140, 6), (-110, 0)), ramp(z, (-140, 8), (-110, 4)), 9, 6)
    canvas.paint(both(gullet, z + 112), 40)
    airway = tube(q, 0, ramp(z, (-140, -8), (-112, -15)), 8.5, 9)
    canvas.paint(both(airway - 3, z + 116), 90)
    canvas.paint(both(airway, z + 108), -990)
    slit = tube(q, 0, centre[1] + 1, ramp(z, (-110, 7), (-98, 2.5), (-86, 7)), 9)
    canvas.paint(both(slit, np.abs(z + 98) - 14), -980)
    for side, _ in SIDES:
        thyroid = ellipsoid(q, draws.near((side * 18, -12, -126), 1), draws.scaled((8, 10, 16), 0.1))
        canvas.paint(both(thyroid, 3 - airway), 110)


def _headrest_and_couch(p: Points, skin: Field, canvas: Canvas, draws: RandomDraws) -> None:
    """A foam rest shaped to the back of the head, on a carbon-fibre couch."""
    x, y, z = p
    back = float(y[skin < 0].max())
    foam = both(np.abs(x) - 95, np.abs(y - back + 22) - 32, np.abs(z + 5) - 90, 6 - skin)
    canvas.paint(both(foam, 8 - skin), -930)
    top = back + draws.between(12, 18)
    slab = both(np.abs(x) - 165, np.abs(y - top - 10) - 10 + (x / 165) ** 2 * 4)
    canvas.paint(both(slab, 6 - skin), 120)
    canvas.paint(both(slab + 4.5, 6 - skin), -940)
