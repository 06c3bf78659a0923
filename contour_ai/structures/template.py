"""A department's structure template: names, colours, types and order of ROIs, and which must be there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.errors import ConfigError
from contour_ai.settings import SET_BY_PROGRAM
from contour_ai.structures.names import tg263_name
from contour_ai.structures.roi_record import INTERPRETED_TYPES, RoiInfo, roi_info

EXTERNAL = "EXTERNAL"
HEX = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, kw_only=True)
class TemplateRoi:
    """One ROI of a template."""

    name: str
    """As it is to be written."""
    type: str | None = None
    """RT ROI interpreted type; none: as it comes."""
    color: str | None = None
    """As in "#ff8800"; none: as it comes."""
    required: bool = True
    """Whether it must be there: created empty where nothing was contoured."""
    aliases: tuple[str, ...] = ()
    """Other names of ROIs that are meant."""

    def __post_init__(self) -> None:
        roi_info(self.name)  # refuses impossible names
        if self.type is not None:
            object.__setattr__(self, "type", self.type.strip().upper())
        if self.type is not None and self.type not in INTERPRETED_TYPES:
            raise ConfigError(
                "Unknown RT ROI interpreted type in the template.",
                where=self.name,
                found=self.type,
                expected=", ".join(sorted(INTERPRETED_TYPES)),
            )
        if self.color is not None and not HEX.fullmatch(self.color):
            raise ConfigError(
                'A colour in the template is not written as "#rrggbb".', where=self.name, found=self.color
            )

    def info(self, roi: RoiInfo | None = None) -> RoiInfo:
        """What is written of the ROI; what the template does not say comes from `roi`, or from the name."""
        base = roi or roi_info(self.name)
        color = base.color if self.color is None else rgb_of_hex(self.color)
        return RoiInfo(
            name=self.name,
            color=color,
            interpreted_type=self.type or base.interpreted_type,
            mirror=roi_info(self.name).mirror,
        )


@dataclass(frozen=True, kw_only=True)
class StructureTemplate:
    """The ROIs of a template, in their order; `notes` say what in it could not be used."""

    structures: tuple[TemplateRoi, ...]
    description: str = ""
    source: str = field(default="", metadata=SET_BY_PROGRAM)
    notes: tuple[str, ...] = field(default=(), metadata=SET_BY_PROGRAM)

    def __post_init__(self) -> None:
        names = [roi.name.casefold() for roi in self.structures]
        twice = sorted({roi.name for roi in self.structures if names.count(roi.name.casefold()) > 1})
        if twice or not names:
            raise ConfigError(
                "A name is twice in the template." if twice else "The template has no structures.",
                where=self.source or None,
                found=", ".join(twice) or None,
            )
        meant: dict[str, str] = {}
        for roi in self.structures:
            for alias in roi.aliases:
                other = meant.setdefault(alias.strip().casefold(), roi.name)
                if other != roi.name:
                    raise ConfigError(
                        "An alias in the template stands for two structures.",
                        where=self.source or None,
                        found=f"{alias}: {other} and {roi.name}",
                        fix="leave it with one of them",
                    )


@dataclass(frozen=True, kw_only=True)
class Styled:
    """What becomes of some ROIs under a template.

    Args:
        infos: {ROI: what is written of it}, in the order of writing; those of the template first.
        empty: ROIs to create without contours, as the template wants them.
        order: names as written, of `infos` and `empty` together.
        missing: names in the template of ROIs that are not there, those that are not required included.
        notes: sentences for the user.
    """

    infos: Mapping[str, RoiInfo]
    empty: tuple[RoiInfo, ...]
    order: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def styled(template: StructureTemplate, rois: Sequence[RoiInfo], *, already: Iterable[str] = ()) -> Styled:
    """Names, colours, types and order of ROIs after a template.

    A ROI is that of the template with its name (in any case), with one of whose aliases it is called, with the same
    TG-263 name, or, for the external contour, with its type.

    Args:
        already: names of ROIs that are in the file to which these are added: they are not created empty.
    """
    present = {name.strip().casefold() for name in already}
    free = {roi.name: roi for roi in rois}
    infos: dict[str, RoiInfo] = {}
    empty: list[RoiInfo] = []
    order: list[str] = []
    missing: list[str] = []
    notes = [f"template {Path(template.source).name}: {note}" for note in template.notes]
    matches = _matches(template, list(rois))
    for wanted in template.structures:
        roi = matches.get(wanted.name)
        if roi is not None:
            del free[roi.name]
            infos[roi.name] = wanted.info(roi)
            order.append(wanted.name)
            if roi.name != wanted.name:
                notes.append(f"ROI {roi.name} is called {wanted.name}, as in the template")
        elif wanted.name.casefold() not in present:
            missing.append(wanted.name)
            if wanted.required:
                empty.append(wanted.info())
                order.append(wanted.name)
    taken = {name.casefold() for name in order}
    for name, roi in free.items():
        if name.casefold() in taken:
            raise ConfigError(
                "A ROI that the template does not mean has the name of one that it does.",
                where=template.source,
                found=name,
                fix="rename one of them",
            )
        infos[name] = roi
        order.append(name)
        notes.append(f"ROI {name} is not in the template and keeps its name")
    if empty:
        notes.append(f"created empty, as the template requires them: {', '.join(e.name for e in empty)}")
    optional = [n for n in missing if n not in {e.name for e in empty}]
    if optional:
        notes.append(f"in the template, but not here: {', '.join(optional)}")
    return Styled(
        infos=infos, empty=tuple(empty), order=tuple(order), missing=tuple(missing), notes=tuple(notes)
    )


def _matches(template: StructureTemplate, rois: list[RoiInfo]) -> dict[str, RoiInfo]:
    """{name in the template: ROI}; the surest matches of all first, so that no ROI is taken by a weaker one."""

    def by_name(wanted: TemplateRoi, roi: RoiInfo) -> bool:
        return wanted.name.casefold() == roi.name.casefold()

    def by_alias(wanted: TemplateRoi, roi: RoiInfo) -> bool:
        return roi.name.casefold() in {a.strip().casefold() for a in wanted.aliases}

    def by_tg263(wanted: TemplateRoi, roi: RoiInfo) -> bool:
        meant = {tg263_name(name) for name in (wanted.name, *wanted.aliases)} - {None}
        return tg263_name(roi.name) in meant

    def by_type(wanted: TemplateRoi, roi: RoiInfo) -> bool:
        return wanted.type == EXTERNAL and roi.interpreted_type == EXTERNAL

    found: dict[str, RoiInfo] = {}
    for rule in (by_name, by_alias, by_tg263, by_type):
        for wanted in template.structures:
            roi = next((r for r in rois if rule(wanted, r)), None) if wanted.name not in found else None
            if roi is not None:
                found[wanted.name] = roi
                rois.remove(roi)
    return found


def rgb_of_hex(text: str) -> tuple[int, int, int]:
    """The three numbers of "#rrggbb"."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
