"""What a planning system accepts beyond DICOM itself: name lengths, characters, hole style; data in ``profiles/``."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from contour_ai.errors import ConfigError
from contour_ai.polygons import CLEARANCE
from contour_ai.settings import from_mapping
from contour_ai.text_files import read_text_file
from contour_ai.yaml_files import parse_yaml

LONGEST_ROI_NAME = 64
LONGEST_LABEL = 16


NEEDED_CHARACTERS = "ROI0123456789"
"""What a name without any other allowed character is written with."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The limits of an importing system; every field is a key of a profile file."""

    name: str = "generic"
    """File name of the profile."""
    description: str = ""
    """Which systems it is for."""
    source: str = ""
    """How its limits are known."""
    roi_name_characters: int = LONGEST_ROI_NAME
    """Longest ROI name, 4 to 64."""
    roi_name_pattern: str = r"[^\\\x00-\x1f\x7f]"
    """Regular expression of one character that a ROI name may have; others become an underscore, or where it
    allows none, one of `-. ~`, or go. Letters of ROI and digits must be allowed."""
    standard_names: bool = False
    """Whether `check` compares names with the list of TG-263, too."""
    label_characters: int = LONGEST_LABEL
    """Longest structure set label, 1 to 16."""
    holes: Literal["keyhole", "separate"] = "keyhole"
    """Holes joined to their outline by a channel of no width, or as contours of their own."""
    transfer_syntax: Literal["implicit", "explicit"] = "implicit"
    """Explicit VR cannot hold contours of more than 65 534 bytes; where there is one, implicit VR is written."""
    outline: float = 0.5
    """How far outside the voxel centres the outline of a mask runs, in voxels."""
    decimals: int | None = None
    """Decimals of coordinates in mm; none: as few as exactness allows on the CT's grid."""

    def __post_init__(self) -> None:
        for key, low, high in (
            ("roi_name_characters", 4, LONGEST_ROI_NAME),
            ("label_characters", 1, LONGEST_LABEL),
            ("outline", CLEARANCE, 1 - CLEARANCE),
            ("decimals", 0, 6),
        ):
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                raise ConfigError(
                    f"The value of {key} is out of range.", found=value, expected=f"{low} to {high}"
                )
        try:
            allowed = re.compile(self.roi_name_pattern)
        except re.error as error:
            raise ConfigError(
                "roi_name_pattern is no regular expression.", found=self.roi_name_pattern, expected=error
            ) from error
        refused = [c for c in NEEDED_CHARACTERS if not allowed.fullmatch(c)]
        if refused:
            raise ConfigError(
                "roi_name_pattern leaves nothing to write names with.",
                found=f"{self.roi_name_pattern}, which does not allow {''.join(refused)}",
                expected="one character, at least the letters of ROI and the digits",
            )


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    folder = resources.files("contour_ai.dicom").joinpath("profiles")
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_profile(name: str | Path | Profile) -> Profile:
    """A profile by its name, or from a YAML file by its path.

    Raises:
        ConfigError: no such profile, or one that cannot be used.
    """
    if isinstance(name, Profile):
        return name
    if str(name) in profile_names():
        text = (
            resources.files("contour_ai.dicom")
            .joinpath("profiles", f"{name}.yaml")
            .read_text(encoding="utf-8")
        )
        return _parsed(text, str(name), f"profile {name}")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise ConfigError(
            "No such profile.",
            found=name,
            expected=", ".join(profile_names()),
            fix="name one of these, or give the path of a .yaml file",
        )
    try:
        return _parsed(read_text_file(path), path.stem, path)
    except (OSError, UnicodeError) as error:
        raise ConfigError("The profile cannot be read.", where=path, found=error) from error


def _parsed(text: str, name: str, where: object) -> Profile:
    try:
        mapping = parse_yaml(text)
    except ValueError as error:
        raise ConfigError("The profile is not valid YAML.", where=where, found=error) from error
    return dataclasses.replace(from_mapping(Profile, mapping or {}, where=where), name=name)
