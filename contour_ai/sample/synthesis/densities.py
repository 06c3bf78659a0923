"""Hounsfield units of tissues: ranges of the mean, and strength of texture."""

from __future__ import annotations

from dataclasses import dataclass

from contour_ai.sample.synthesis.tissues import BONES, KIDNEYS, LUNGS, Tissue

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
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


_SOFT = Density(plain=(20, 60), enhanced=(40, 110))
_BONE = Density(plain=(60, 380), enhanced=(60, 400), fine=(15, 90), coarse=(15, 80))
_FAT = Density(plain=(-120, -75), enhanced=None, fine=(2, 16), coarse=(2, 14))

DENSITIES: dict[Tissue, Density] = {
    **dict.fromkeys(Tissue, _SOFT),
    **dict.fromkeys(BONES, _BONE),
    Tissue.AIR: Density(plain=(-1000, -990), enhanced=None, fine=(0, 0), coarse=(0, 0)),
    Tissue.SKIN: Density(plain=(-40, 50)),
    Tissue.FAT: _FAT,
    Tissue.VISCERAL_FAT: Density(plain=(-118, -70), enhanced=None, fine=(2, 20), coarse=(2, 18)),
    Tissue.LOOSE_MUSCLE: Density(plain=(30, 68), enhanced=(40, 85), fine=(2, 12), coarse=(2, 14)),
    Tissue.SEPTUM: Density(plain=(-95, -15), enhanced=None, fine=(4, 20), coarse=(4, 15)),
    Tissue.STRAND: Density(plain=(0, 60), enhanced=(20, 140), fine=(4, 25), coarse=(4, 25)),
    Tissue.LEVATOR: Density(plain=(25, 62), enhanced=(35, 85), fine=(2, 10), coarse=(2, 10)),
    Tissue.GENITAL: Density(plain=(10, 60), enhanced=(20, 100), fine=(4, 20), coarse=(4, 25)),
    Tissue.PROSTATE: Density(plain=(22, 58), enhanced=(35, 110), fine=(1, 10), coarse=(1, 14)),
    Tissue.SEMINAL_VESICLE: Density(plain=(5, 50), enhanced=(20, 80), fine=(2, 12), coarse=(2, 10)),
    Tissue.BLADDER: Density(plain=(-8, 26), enhanced=None, fine=(0, 4), coarse=(0, 3)),
    Tissue.RECTUM: Density(plain=(20, 60), enhanced=(40, 110)),
    Tissue.COLON: Density(plain=(20, 60), enhanced=(40, 110)),
    Tissue.SMALL_BOWEL: Density(plain=(20, 60), enhanced=(40, 130)),
    Tissue.STOMACH: Density(plain=(25, 60), enhanced=(40, 120)),
    Tissue.ESOPHAGUS: Density(plain=(20, 55), enhanced=(30, 90)),
    Tissue.CARTILAGE: Density(plain=(60, 220), enhanced=None, fine=(5, 40), coarse=(5, 40)),
    Tissue.GLUTEUS: Density(plain=(28, 66), enhanced=(35, 80), fine=(3, 22), coarse=(3, 20)),
    Tissue.MUSCLE: Density(plain=(32, 68), enhanced=(40, 85), fine=(2, 12), coarse=(2, 12)),
    Tissue.ARTERY: Density(plain=(32, 52), enhanced=(100, 380), fine=(0, 8), coarse=(0, 6)),
    Tissue.AORTA: Density(plain=(32, 52), enhanced=(100, 380), fine=(0, 8), coarse=(0, 6)),
    Tissue.VEIN: Density(plain=(30, 52), enhanced=(60, 210), fine=(0, 10), coarse=(0, 12)),
    Tissue.LIVER: Density(plain=(25, 68), enhanced=(70, 135), fine=(0, 8), coarse=(0, 8)),
    Tissue.SPLEEN: Density(plain=(38, 58), enhanced=(80, 150), fine=(0, 8), coarse=(0, 12)),
    **dict.fromkeys(KIDNEYS, Density(plain=(22, 42), enhanced=(90, 240), fine=(0, 15), coarse=(0, 25))),
    Tissue.PANCREAS: Density(plain=(20, 50), enhanced=(60, 120), fine=(3, 25), coarse=(3, 15)),
    Tissue.GALLBLADDER: Density(plain=(-5, 25), enhanced=None, fine=(0, 4), coarse=(0, 3)),
    Tissue.GLAND: Density(plain=(10, 100), enhanced=(50, 180)),
    **dict.fromkeys(LUNGS, Density(plain=(-900, -680), enhanced=None, fine=(15, 70), coarse=(10, 60))),
    Tissue.HEART: Density(plain=(30, 50), enhanced=(80, 260), fine=(0, 10), coarse=(0, 25)),
    Tissue.TRACHEA: Density(plain=(-1000, -950), enhanced=None, fine=(0, 5), coarse=(0, 5)),
    Tissue.CORD: Density(plain=(15, 60), enhanced=(20, 70)),
    Tissue.UTERUS: Density(plain=(30, 65), enhanced=(60, 150), fine=(2, 15), coarse=(2, 25)),
    Tissue.VAGINA: Density(plain=(20, 55), enhanced=(30, 100)),
    Tissue.MASS: Density(plain=(0, 55), enhanced=(0, 100), fine=(2, 18), coarse=(2, 25)),
    Tissue.METAL: Density(plain=(2600, 3071), enhanced=None, fine=(0, 0), coarse=(0, 0)),
    Tissue.COUCH: Density(plain=(-300, 60), enhanced=None, fine=(0, 0), coarse=(0, 0)),
    Tissue.ASCITES: Density(plain=(-5, 25), enhanced=None, fine=(0, 4), coarse=(0, 4)),
    Tissue.EFFUSION: Density(plain=(-5, 35), enhanced=None, fine=(0, 5), coarse=(0, 5)),
    Tissue.WATER: Density(plain=(-5, 15), enhanced=None, fine=(0, 2), coarse=(0, 2)),
}
