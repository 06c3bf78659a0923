"""What a structure set says about a ROI besides its contours: name, colour, interpreted type, partner."""

from __future__ import annotations

import colorsys
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from contour_ai.errors import ConfigError
from contour_ai.structures.tg263 import partner_of, row_of, standard_names

INTERPRETED_TYPES = frozenset(
    {
        "EXTERNAL",
        "PTV",
        "CTV",
        "GTV",
        "TREATED_VOLUME",
        "IRRAD_VOLUME",
        "BOLUS",
        "AVOIDANCE",
        "ORGAN",
        "MARKER",
        "REGISTRATION",
        "ISOCENTER",
        "CONTRAST_AGENT",
        "CAVITY",
        "BRACHY_CHANNEL",
        "BRACHY_ACCESSORY",
        "BRACHY_SRC_APP",
        "BRACHY_CHNL_SHLD",
        "SUPPORT",
        "FIXATION",
        "DOSE_REGION",
        "CONTROL",
        "DOSE_MEASUREMENT",
        "DEVICE",
    }
)
"""Defined terms of RT ROI Interpreted Type (3006,00A4), DICOM PS3.3 C.8.8.8.1."""

TYPE_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), interpreted_type)
    for pattern, interpreted_type in (
        (r"(external|body|skin[ _-]?contour|patient|outline|aussenkontur|contour[ _-]?externe)", "EXTERNAL"),
        (r"(z[ _-]?)?ptv(?![a-z]{2}).*", "PTV"),
        (r"(z[ _-]?)?[ci]tv(?![a-z]{2}).*", "CTV"),
        (r"(z[ _-]?)?i?gtv(?![a-z]{2}).*", "GTV"),
        (r"bolus.*", "BOLUS"),
        (r"(avoid|zavoid).*", "AVOIDANCE"),
        (r"(couch|table|tisch|tafel).*", "SUPPORT"),
    )
)
"""Interpreted types of names outside the table; an internal target volume counts as a CTV, as DICOM has no ITV."""


FORMER_NAMES = {
    "BrainstemCore": "Brainstem_Core",
    "Thymus": "Glnd_Thymus",
    "BronchialTree": "Bronchus",
    "Rectum_Wall": "Rectal_Wall",
    "VertebralBody": "VB",
    "Bone_Pubic_L": "PubicSymphys_L",
    "Bone_Pubic_R": "PubicSymphys_R",
}
"""Names that version 0.1 proposed, and the ones that TG-263 lists; models and maps may still have them."""


LONGEST_KEPT_NAME = 1024


@dataclass(frozen=True, kw_only=True)
class RoiInfo:
    """A ROI's name and what goes with it in a structure set.

    Args:
        name: 1-1024 characters. Some systems' names have more than the 64 of the standard; a name that an importer does
            not take is shortened when it is written (`dicom.roi_names`).
        color: red, green, blue, 0-255.
        interpreted_type: RTROIInterpretedType, one of the terms of DICOM PS3.3 C.8.8.8.1, such as ORGAN or PTV.
        mirror: name of the ROI that this one becomes in a mirror; None where it is its own.

    Raises:
        ConfigError: a value is out of range.
    """

    name: str
    color: tuple[int, int, int]
    interpreted_type: str = "ORGAN"
    mirror: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or self.name != self.name.strip() or len(self.name) > LONGEST_KEPT_NAME:
            raise ConfigError(
                f"A ROI name must have 1-{LONGEST_KEPT_NAME} characters without spaces at its ends.",
                found=repr(self.name[:80]),
            )
        object.__setattr__(self, "color", tuple(int(c) for c in self.color))
        if len(self.color) != 3 or not all(0 <= c <= 255 for c in self.color):
            raise ConfigError(
                "A ROI colour is three numbers from 0 to 255.", where=self.name, found=self.color
            )
        if self.interpreted_type not in INTERPRETED_TYPES:
            raise ConfigError(
                "Unknown RT ROI interpreted type.",
                where=self.name,
                found=self.interpreted_type,
                expected=", ".join(sorted(INTERPRETED_TYPES)),
            )


def roi_info(name: str) -> RoiInfo:
    """Colour, type and partner of a ROI: from the TG-263 table, or derived from the name alone.

    Case does not matter for finding the table's entry; the name comes back as it was given. A name outside the table
    gets a colour from its hash, so that it is the same in every file, and a type from `TYPE_PATTERNS`.
    """
    name = name.strip()
    known = _by_folded_name().get(name.casefold()) or tg263_table().get(FORMER_NAMES.get(name, ""))
    if known is not None:
        mirror = known.mirror if known.name == name else _swapped_suffix(name)
        return RoiInfo(name=name, color=known.color, interpreted_type=known.interpreted_type, mirror=mirror)
    generic = row_of(name)  # an expansion, as Brainstem_PRV05
    if generic is not None:
        return RoiInfo(
            name=name,
            color=_hash_color(name),
            interpreted_type=generic.interpreted_type,
            mirror=_swapped_suffix(name),
        )
    kind = next((t for pattern, t in TYPE_PATTERNS if pattern.fullmatch(name)), "ORGAN")
    return RoiInfo(name=name, color=_hash_color(name), interpreted_type=kind, mirror=_swapped_suffix(name))


@cache
def tg263_table() -> dict[str, RoiInfo]:
    """{name: RoiInfo}: the names of TG-263 that can be written, then those of our own.

    Generic rows (``Brainstem_PRVxx``) are not among them, nor are the list's misprints.

    Raises:
        ConfigError: the table shipped with the package is damaged.
    """
    return {
        name: RoiInfo(
            name=name, color=_rgb(row.color), interpreted_type=row.interpreted_type, mirror=partner_of(name)
        )
        for name, row in standard_names().items()
        if not row.is_generic
    }


def _rgb(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ConfigError('A colour is written as "#rrggbb".', found=text)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


@cache
def _by_folded_name() -> dict[str, RoiInfo]:
    return {name.casefold(): info for name, info in tg263_table().items()}


@cache
def read_table(file_name: str) -> dict[str, Any]:
    """A YAML file of this package."""
    text = resources.files("contour_ai.structures").joinpath(file_name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _swapped_suffix(name: str) -> str | None:
    swap = {"_L": "_R", "_R": "_L", "_l": "_r", "_r": "_l"}
    return name[:-2] + swap[name[-2:]] if len(name) > 2 and name[-2:] in swap else None


def _hash_color(name: str) -> tuple[int, int, int]:
    """A colour bright and saturated enough to be seen on a grey CT."""
    digest = hashlib.sha256(name.casefold().encode()).digest()
    hue, saturation, value = digest[0] / 256, 0.55 + 0.45 * digest[1] / 255, 0.75 + 0.25 * digest[2] / 255
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue
