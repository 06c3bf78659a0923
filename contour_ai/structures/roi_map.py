"""The map from the ROI names in an archive to the ROIs of a model: a YAML file that people edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from contour_ai.errors import ConfigError
from contour_ai.files import ROI_MAP, atomic_file, write_text
from contour_ai.yaml_files import read_yaml

KEYS = ("rois", "ignore", "absent", "accepted")

HEADER = """\
# ROI map: which names in the structure sets of an archive stand for which ROI.
#
# rois:     {ROI: [names as the structure sets have them]}; case and spaces at the ends do not matter.
# ignore:   [names that are left out]
# absent:   {folder below the archive, or patient ID: [ROIs]}: these are certainly not in those patients, because the
#           scan does not reach there or surgery removed them. A ROI that is merely not contoured is unknown, and
#           is not to be listed.
# accepted: {folder or patient ID: [ROIs]}: looked at and right, whatever the check of the archive says.
#
# Training refuses names that stand neither under rois nor under ignore.
"""


@dataclass(frozen=True)
class Mapped:
    """What a map makes of the names of one or more structure sets."""

    rois: Mapping[str, str]
    """{name in the file: ROI}."""
    ignored: tuple[str, ...]
    unmapped: tuple[str, ...]
    """Names that the map does not know."""


@dataclass(frozen=True)
class RoiMap:
    """ROIs with the names that stand for them, and names to leave out.

    Args:
        rois: {ROI: names in structure sets}; a ROI's own name always stands for it.
        ignore: names to leave out.
        source: the file it came from, for messages.
        absent: {folder or patient ID: ROIs that are certainly not in those patients}.
        accepted: {folder or patient ID: ROIs that are right whatever a check says}.

    Raises:
        ConfigError: a name stands for two ROIs, or for one and is ignored as well; a ROI is said to be absent or
            accepted that the map does not have.
    """

    rois: Mapping[str, tuple[str, ...]]
    ignore: tuple[str, ...] = ()
    source: str = field(default="ROI map", compare=False)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    accepted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rois", {roi: tuple(names) for roi, names in self.rois.items()})
        object.__setattr__(self, "ignore", tuple(self.ignore))
        owners: dict[str, str] = {}
        for roi, names in self.rois.items():
            for folded in dict.fromkeys(_fold(n) for n in (roi, *names)):
                if folded in owners:
                    raise ConfigError(
                        "A name stands for two ROIs in the ROI map.",
                        where=self.source,
                        found=f"{folded!r} under {owners[folded]} and {roi}",
                        fix="leave it in one of them",
                    )
                owners[folded] = roi
        for name in self.ignore:
            if _fold(name) in owners:
                raise ConfigError(
                    "A name is both mapped and ignored in the ROI map.",
                    where=self.source,
                    found=f"{name!r}, mapped to {owners[_fold(name)]}",
                    fix="leave it in one of the lists",
                )
        for key in ("absent", "accepted"):
            by_place = {place: tuple(rois) for place, rois in getattr(self, key).items()}
            object.__setattr__(self, key, by_place)
            for place, rois in by_place.items():
                self._refuse_unknown(f"{key}, {place}", rois)

    def _refuse_unknown(self, where: str, rois: Iterable[str]) -> None:
        unknown = [roi for roi in rois if roi not in self.rois]
        if unknown:
            raise ConfigError(
                "The ROI map speaks of ROIs that it does not have.",
                where=f"{self.source}, {where}",
                found=", ".join(unknown),
                expected=", ".join(self.rois),
                fix="write the ROI as it stands under rois, not a name from a structure set",
            )

    def apply(self, names: Iterable[str]) -> Mapped:
        """What each name of a structure set stands for; names that the map does not know are reported, not guessed."""
        owners = {_fold(n): roi for roi, aliases in self.rois.items() for n in (roi, *aliases)}
        ignored = {_fold(n) for n in self.ignore}
        found = tuple(dict.fromkeys(names))
        return Mapped(
            {name: owners[_fold(name)] for name in found if _fold(name) in owners},
            tuple(name for name in found if _fold(name) in ignored),
            tuple(name for name in found if _fold(name) not in owners and _fold(name) not in ignored),
        )

    @classmethod
    def load(cls, path: Path) -> RoiMap:
        """Reads and checks a map.

        Raises:
            ConfigError: the file cannot be read, has unknown keys, or contradicts itself.
        """
        data = read_yaml(path, "The ROI map")
        if not isinstance(data, dict):
            raise _wrong_form(path, "the file", data)
        unknown = sorted(str(key) for key in data if key not in KEYS)
        if unknown:
            raise ConfigError(
                "Unknown key in the ROI map.",
                where=path,
                found=", ".join(unknown),
                expected=", ".join(KEYS),
                fix="correct the spelling, or remove it",
            )
        rois = data.get("rois") or {}
        if not isinstance(rois, dict) or not rois:
            raise _wrong_form(path, "rois", rois)
        lists = {_checked_name(path, roi): _names(path, f"rois, {roi}", names) for roi, names in rois.items()}
        return cls(
            lists,
            _names(path, "ignore", data.get("ignore")),
            str(path),
            _by_place(path, "absent", data.get("absent")),
            _by_place(path, "accepted", data.get("accepted")),
        )

    def save(
        self,
        path: Path,
        *,
        comments: Mapping[str, str] | None = None,
        undecided: Iterable[str] = (),
        overwrite: bool = False,
    ) -> None:
        """Writes the map as YAML that says how to edit it.

        Args:
            path: the file.
            comments: {name in the archive: remark}, written behind the name.
            undecided: names that are in neither list yet, written as comments to be moved into one.
            overwrite: replace an existing file.

        Raises:
            OutputError: the file exists, or cannot be written.
        """
        remarks = {_fold(name): text for name, text in (comments or {}).items()}
        lines = [HEADER, "rois:" if self.rois else "rois: {}"]
        for roi, names in self.rois.items():
            lines.append(f"  {_quoted(roi)}:" if names else f"  {_quoted(roi)}: []")
            lines += [_item("    ", name, remarks) for name in names]
        lines += ["", "ignore:" if self.ignore else "ignore: []"]
        lines += [_item("  ", name, remarks) for name in self.ignore]
        for key, by_place in (("absent", self.absent), ("accepted", self.accepted)):
            lines += ["", f"{key}:" if by_place else f"{key}: {{}}"]
            for place, rois in by_place.items():
                lines.append(f"  {_quoted(place)}: [{', '.join(_quoted(roi) for roi in rois)}]")
        waiting = [_item("#  ", name, remarks) for name in undecided]
        if waiting:
            lines += ["", "# Not decided: move each of these to a ROI above, or to ignore.", *waiting]
        with atomic_file(path, overwrite=overwrite, kind=ROI_MAP) as temporary:
            write_text(temporary, "\n".join(lines) + "\n")


def _fold(name: str) -> str:
    return name.strip().casefold()


def _item(indent: str, name: str, remarks: Mapping[str, str]) -> str:
    remark = remarks.get(_fold(name), "")
    return f"{indent}- {_quoted(name)}" + (f"  # {remark}" if remark else "")


def _quoted(text: str) -> str:
    """`text` as a YAML scalar on one line, in quotes where it needs them."""
    return yaml.safe_dump(text, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _names(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong_form(path, key, value)
    return tuple(_checked_name(path, name) for name in value)


def _by_place(path: Path, key: str, value: Any) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong_form(path, key, value)
    return {
        _checked_name(path, place): _names(path, f"{key}, {place}", rois) for place, rois in value.items()
    }


def _checked_name(path: Path, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(
            "A name in the ROI map is no text.",
            where=path,
            found=repr(name),
            fix='write numbers, yes, no, on and off in quotes, as in "25"',
        )
    return name


def _wrong_form(path: Path, key: str, value: Any) -> ConfigError:
    return ConfigError(
        "The ROI map has the wrong form.",
        where=f"{path}, {key}",
        found="nothing" if not value else type(value).__name__,
        expected="rois: {ROI: [names]}, ignore: [names], absent and accepted: {folder or patient: [ROIs]}",
        fix="contour-ai rois DATA_DIR --out roi-map.yaml writes one to start from",
    )
