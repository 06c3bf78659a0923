"""The tissues that a synthetic patient is made of, and which structure of a label map is which."""

from __future__ import annotations

import re
from enum import IntEnum


class Tissue(IntEnum):
    """Value of a voxel of a drawing."""

    NONE = 0
    """Not labelled in the map; everything around the labelled structures is drawn (`surroundings`)."""
    AIR = 1
    SKIN = 2
    FAT = 3
    """Under the skin."""
    VISCERAL_FAT = 4
    LOOSE_MUSCLE = 5
    """Muscles that the map lacks."""
    SEPTUM = 6
    """Fat between muscles, fasciae in fat."""
    STRAND = 7
    """Small vessels, nodes and nerves in fat."""
    LEVATOR = 8
    """Muscles of the pelvic floor and side wall."""
    GENITAL = 9
    PROSTATE = 10
    SEMINAL_VESICLE = 11
    BLADDER = 12
    RECTUM = 13
    COLON = 14
    SMALL_BOWEL = 15
    STOMACH = 16
    ESOPHAGUS = 17
    FEMUR_LEFT = 20
    FEMUR_RIGHT = 21
    HIP_LEFT = 22
    HIP_RIGHT = 23
    SACRUM = 24
    VERTEBRA = 25
    RIB = 26
    OTHER_BONE = 27
    CARTILAGE = 28
    GLUTEUS = 30
    """Gluteus maximus."""
    MUSCLE = 31
    ARTERY = 32
    VEIN = 33
    LIVER = 34
    SPLEEN = 35
    KIDNEY_LEFT = 36
    PANCREAS = 37
    GALLBLADDER = 38
    GLAND = 39
    LUNG_LEFT = 40
    HEART = 41
    TRACHEA = 42
    CORD = 43
    UTERUS = 44
    VAGINA = 45
    MASS = 46
    """A tumour that is none of the organs."""
    METAL = 47
    COUCH = 48
    WATER = 49
    """Balloons and other things filled with water."""
    ASCITES = 50
    """Free fluid in the belly."""
    LUNG_RIGHT = 51
    KIDNEY_RIGHT = 52
    AORTA = 54
    EFFUSION = 53
    """Fluid around a lung."""


BONES = (
    Tissue.FEMUR_LEFT,
    Tissue.FEMUR_RIGHT,
    Tissue.HIP_LEFT,
    Tissue.HIP_RIGHT,
    Tissue.SACRUM,
    Tissue.VERTEBRA,
    Tissue.RIB,
    Tissue.OTHER_BONE,
)
LUNGS = (Tissue.LUNG_LEFT, Tissue.LUNG_RIGHT)
KIDNEYS = (Tissue.KIDNEY_LEFT, Tissue.KIDNEY_RIGHT)
PAIRS = (
    (Tissue.FEMUR_LEFT, Tissue.FEMUR_RIGHT),
    (Tissue.HIP_LEFT, Tissue.HIP_RIGHT),
    LUNGS,
    KIDNEYS,
)
"""Left and right of what a structure set names by its side."""
HOLLOW = (Tissue.RECTUM, Tissue.COLON, Tissue.SMALL_BOWEL, Tissue.STOMACH, Tissue.ESOPHAGUS)
"""Organs with a wall and a content."""

VISCERA = (
    Tissue.PROSTATE,
    Tissue.SEMINAL_VESICLE,
    Tissue.BLADDER,
    *HOLLOW,
    Tissue.LIVER,
    Tissue.SPLEEN,
    *KIDNEYS,
    Tissue.PANCREAS,
    Tissue.GALLBLADDER,
    Tissue.UTERUS,
    Tissue.VAGINA,
    Tissue.MASS,
    Tissue.GLAND,
    *LUNGS,
    Tissue.HEART,
)

YIELDING = (Tissue.NONE, Tissue.COLON, Tissue.SMALL_BOWEL)
"""What a filling or growing organ takes the place of."""

# TotalSegmentator's class names: task "total", versions 1 and 2 (Wasserthal et al., Radiol Artif Intell 5:e230024,
# 2023).
PATTERNS: tuple[tuple[str, Tissue], ...] = (
    (r"prostate", Tissue.PROSTATE),
    (r"urinary_bladder", Tissue.BLADDER),
    (r"colon", Tissue.COLON),
    (r"small_bowel|duodenum", Tissue.SMALL_BOWEL),
    (r"stomach", Tissue.STOMACH),
    (r"esophagus", Tissue.ESOPHAGUS),
    (r"femur_left", Tissue.FEMUR_LEFT),
    (r"femur_right", Tissue.FEMUR_RIGHT),
    (r"hip_left", Tissue.HIP_LEFT),
    (r"hip_right", Tissue.HIP_RIGHT),
    (r"sacrum", Tissue.SACRUM),
    (r"vertebrae_.+", Tissue.VERTEBRA),
    (r"rib_.+", Tissue.RIB),
    (r"(humerus|scapula|clavicula)_(left|right)|sternum|skull", Tissue.OTHER_BONE),
    (r"costal_cartilages", Tissue.CARTILAGE),
    (r"gluteus_maximus_(left|right)", Tissue.GLUTEUS),
    (r"(gluteus_(medius|minimus)|iliopsoas|autochthon)_(left|right)", Tissue.MUSCLE),
    (r"aorta", Tissue.AORTA),
    (r".*artery.*|brachiocephalic_trunk", Tissue.ARTERY),
    (r".*(vein|vena).*", Tissue.VEIN),
    (r"liver", Tissue.LIVER),
    (r"spleen", Tissue.SPLEEN),
    (r"kidney_left", Tissue.KIDNEY_LEFT),
    (r"kidney_right", Tissue.KIDNEY_RIGHT),
    (r"kidney_cyst_(left|right)", Tissue.GALLBLADDER),
    (r"pancreas", Tissue.PANCREAS),
    (r"gallbladder", Tissue.GALLBLADDER),
    (r"adrenal_gland_(left|right)|thyroid_gland", Tissue.GLAND),
    (r"lung(_.+)?_left", Tissue.LUNG_LEFT),
    (r"lung(_.+)?_right", Tissue.LUNG_RIGHT),
    (r"heart.*|atrial_appendage_left", Tissue.HEART),
    (r"trachea", Tissue.TRACHEA),
    (r"spinal_cord", Tissue.CORD),
    (r"brain|face", Tissue.GLAND),
)


def tissue_of(name: str) -> Tissue | None:
    """The tissue of a structure by TotalSegmentator's name; None for a name that is not known."""
    for pattern, tissue in PATTERNS:
        if re.fullmatch(pattern, name.strip().lower()):
            return tissue
    return None
