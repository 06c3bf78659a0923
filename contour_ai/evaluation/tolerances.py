"""Within how many mm two surfaces count as agreeing, ROI by ROI, and who says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from contour_ai.errors import ConfigError
from contour_ai.settings import from_mapping
from contour_ai.structures.names import tg263_name
from contour_ai.text_files import read_text_file
from contour_ai.yaml_files import parse_yaml

BUILT_IN = "tolerances.yaml"


@dataclass(frozen=True)
class ToleranceSource:
    """A publication, or a department's own survey, and its tolerances in mm by TG-263 name."""

    text: str
    """What is cited with the results."""
    rois_mm: dict[str, float]
    """{TG-263 name: mm}."""


@dataclass(frozen=True)
class Tolerances:
    """Tolerances in mm; the first source that names a ROI holds for it.

    Raises:
        ConfigError: a tolerance is below 0 or not finite.
    """

    default_mm: float = 2.0
    """Of the surface DSC, for every ROI that no source names."""
    path_mm: float = 0.0
    """Of the added path length."""
    sources: tuple[ToleranceSource, ...] = field(default=())
    """Tolerances of the surface DSC of single ROIs."""

    def __post_init__(self) -> None:
        numbers = [self.default_mm, self.path_mm, *(mm for s in self.sources for mm in s.rois_mm.values())]
        if not all(0 <= mm < float("inf") for mm in numbers):
            raise ConfigError("A tolerance is a number of mm, 0 or more.", found=numbers)

    def of(self, roi: str) -> float:
        """mm for the surface DSC of a ROI."""
        source = self.source_of(roi)
        return self.default_mm if source is None else _found(source, roi)[0]

    def source_of(self, roi: str) -> ToleranceSource | None:
        """Who says so; None where the default holds."""
        return next((source for source in self.sources if _found(source, roi)), None)

    def described(self, rois: Iterable[str]) -> tuple[str, ...]:
        """A sentence a source with its ROIs and their mm, and one on those that the default holds for."""
        names = tuple(rois)
        parts = []
        for source in (*self.sources, None):
            mine = [f"{roi} {self.of(roi):g} mm" for roi in names if self.source_of(roi) == source]
            if mine:
                parts.append(f"{', '.join(mine)}: {'default' if source is None else source.text}")
        return tuple(parts)


def load_tolerances(path: Path | None = None) -> Tolerances:
    """The tolerances of a YAML file, or those that come with the package.

    Raises:
        ConfigError: no such file, not YAML, an unknown key or a value that is no number.
    """
    return _built_in() if path is None else _parsed(_text(Path(path)), path)


@cache
def _built_in() -> Tolerances:
    text = resources.files("contour_ai.evaluation").joinpath(BUILT_IN).read_text(encoding="utf-8")
    return _parsed(text, BUILT_IN)


def _text(path: Path) -> str:
    try:
        return read_text_file(path)
    except (OSError, UnicodeError) as error:
        raise ConfigError("The tolerances cannot be read.", where=path, found=error) from error


def _parsed(text: str, where: object) -> Tolerances:
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ConfigError("The file of tolerances is not YAML.", where=where, found=error) from error
    return from_mapping(Tolerances, content, where=where)


def _found(source: ToleranceSource, roi: str) -> list[float]:
    """The ROI's own name first, whatever its case, then the organ that TG-263 knows it as."""
    folded = {name.casefold(): mm for name, mm in source.rois_mm.items()}
    names = (roi.strip(), tg263_name(roi) or "")
    return [folded[name.casefold()] for name in names if name.casefold() in folded]
