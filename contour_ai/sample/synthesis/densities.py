"""Hounsfield units of tissues: ranges of the mean, and strength of texture."""

from __future__ import annotations

from dataclasses import dataclass

from contour_ai.sample.synthesis.tissues import BONES, KIDNEYS, LUNGS, Tissue

Range = tuple[float, float]


@dataclass(frozen=True)
class Density:
    """HU of one tissue."""

    plain: Range
    """Range of the mean without contrast in the vessels."""
    enhanced: Range | None = None
    """The same with contrast; null where contrast changes nothing."""
    fine: Range = (0.0, 6.0)
    """Strength of texture in grains of about 5 mm, in HU."""
    coarse: Range = (0.0, 6.0)
    """The same in grains of about 18 mm."""


_SOFT = Density((20, 60), (40, 110))
_BONE = Density((60, 380), (60, 400), (15, 90), (15, 80))
_FAT = Density((-120, -75), None, (2, 16), (2, 14))

DENSITIES: dict[Tissue, Density] = {
    **dict.fromkeys(Tissue, _SOFT),
    **dict.fromkeys(BONES, _BONE),
    Tissue.AIR: Density((-1000, -990), None, (0, 0), (0, 0)),
    Tissue.SKIN: Density((-40, 50)),
    Tissue.FAT: _FAT,
    Tissue.VISCERAL_FAT: Density((-118, -70), None, (2, 20), (2, 18)),
    Tissue.LOOSE_MUSCLE: Density((30, 68), (40, 85), (2, 12), (2, 14)),
    Tissue.SEPTUM: Density((-95, -15), None, (4, 20), (4, 15)),
    Tissue.STRAND: Density((0, 60), (20, 140), (4, 25), (4, 25)),
    Tissue.LEVATOR: Density((25, 62), (35, 85), (2, 10), (2, 10)),
    Tissue.GENITAL: Density((10, 60), (20, 100), (4, 20), (4, 25)),
    Tissue.PROSTATE: Density((22, 58), (35, 110), (1, 10), (1, 14)),
    Tissue.SEMINAL_VESICLE: Density((5, 50), (20, 80), (2, 12), (2, 10)),
    Tissue.BLADDER: Density((-8, 26), None, (0, 4), (0, 3)),
    Tissue.RECTUM: Density((20, 60), (40, 110)),
    Tissue.COLON: Density((20, 60), (40, 110)),
    Tissue.SMALL_BOWEL: Density((20, 60), (40, 130)),
    Tissue.STOMACH: Density((25, 60), (40, 120)),
    Tissue.ESOPHAGUS: Density((20, 55), (30, 90)),
    Tissue.CARTILAGE: Density((60, 220), None, (5, 40), (5, 40)),
    Tissue.GLUTEUS: Density((28, 66), (35, 80), (3, 22), (3, 20)),
    Tissue.MUSCLE: Density((32, 68), (40, 85), (2, 12), (2, 12)),
    Tissue.ARTERY: Density((32, 52), (100, 380), (0, 8), (0, 6)),
    Tissue.AORTA: Density((32, 52), (100, 380), (0, 8), (0, 6)),
    Tissue.VEIN: Density((30, 52), (60, 210), (0, 10), (0, 12)),
    Tissue.LIVER: Density((25, 68), (70, 135), (0, 8), (0, 8)),
    Tissue.SPLEEN: Density((38, 58), (80, 150), (0, 8), (0, 12)),
    **dict.fromkeys(KIDNEYS, Density((22, 42), (90, 240), (0, 15), (0, 25))),
    Tissue.PANCREAS: Density((20, 50), (60, 120), (3, 25), (3, 15)),
    Tissue.GALLBLADDER: Density((-5, 25), None, (0, 4), (0, 3)),
    Tissue.GLAND: Density((10, 100), (50, 180)),
    **dict.fromkeys(LUNGS, Density((-900, -680), None, (15, 70), (10, 60))),
    Tissue.HEART: Density((30, 50), (80, 260), (0, 10), (0, 25)),
    Tissue.TRACHEA: Density((-1000, -950), None, (0, 5), (0, 5)),
    Tissue.CORD: Density((15, 60), (20, 70)),
    Tissue.UTERUS: Density((30, 65), (60, 150), (2, 15), (2, 25)),
    Tissue.VAGINA: Density((20, 55), (30, 100)),
    Tissue.MASS: Density((0, 55), (0, 100), (2, 18), (2, 25)),
    Tissue.METAL: Density((2600, 3071), None, (0, 0), (0, 0)),
    Tissue.COUCH: Density((-300, 60), None, (0, 0), (0, 0)),
    Tissue.ASCITES: Density((-5, 25), None, (0, 4), (0, 4)),
    Tissue.EFFUSION: Density((-5, 35), None, (0, 5), (0, 5)),
    Tissue.WATER: Density((-5, 15), None, (0, 2), (0, 2)),
}
