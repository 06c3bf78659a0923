"""The map from the ROI names in an archive to the ROIs of a model: a YAML file that people edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from contour_ai.errors import ConfigError
from contour_ai.files import ROI_MAP, atomic_file, write_text
from contour_ai.structures.name_patterns import compiled, is_pattern, matches
from contour_ai.yaml_files import read_yaml

KEYS = ("rois", "ignore", "absent", "accepted")

HEADER = """\
# ROI map: which names in the structure sets of an archive stand for which ROI.
#
# rois:     {ROI: [names as the structure sets have them]}; case and spaces at the ends do not matter.
# ignore:   [names that are left out]
#           Both take patterns: "PTV*" (* is any text, ? any letter), "re:^lt[ _]?parotid" (a regular expression).
#           Two entries that say different things of one name are refused.
# absent:   {folder below the archive, or patient ID: [ROIs]}: these are certainly not in those patients, because the
#           scan does not reach there or surgery removed them. A ROI that is merely not contoured is unknown, and
#           is not to be listed.
# accepted: {folder or patient ID: [ROIs]}: looked at and right, whatever the check of the archive says.
#
# Names that stand under neither: training refuses those that may be a ROI to learn, and ignores the others.
"""

DECIDE = """\
# Not decided: move each of these to a ROI above, or to ignore.
# Where the # before a name is taken away, the name is ignored."""


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """What a map makes of the names of one or more structure sets."""

    rois: Mapping[str, str]
    """{name in the file: ROI}."""
    ignored: tuple[str, ...]
    unmapped: tuple[str, ...]
    """Names that the map does not know."""
    caught: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{entry of the map: names that it catches}, also of those that catch none."""


@dataclass(frozen=True)
class _Rule:
    """An entry of the map: a name or a pattern, and the ROI that it stands for; None where it is ignored."""

    text: str
    roi: str | None

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.text) and self.text != self.roi

    @property
    def described(self) -> str:
        return f"{self.roi} (pattern {self.text!r})" if self.is_pattern else f"{self.roi}"

    def catches(self, name: str) -> bool:
        """Whether the entry is about a name, or spelt like it."""
        return _fold(self.text) == _fold(name) or (self.is_pattern and matches(self.text, name))


@dataclass(frozen=True, kw_only=True)
class RoiMap:
    """ROIs with the names that stand for them, and names to leave out.

    Args:
        rois: {ROI: names in structure sets, and patterns of them}; a ROI's own name always stands for it.
        ignore: names and patterns of names to leave out.
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
        rules = self._rules()
        patterns = tuple(rule for rule in rules if rule.is_pattern)
        for rule in patterns:
            compiled(rule.text)
        owners: dict[str, _Rule] = {}
        for rule in rules:
            if not rule.is_pattern:
                first = owners.setdefault(_fold(rule.text), rule)
                self._claim(rule.text, (first, rule, *patterns))
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

    def _rules(self) -> tuple[_Rule, ...]:
        of_rois = [_Rule(text, roi) for roi, texts in self.rois.items() for text in (roi, *texts)]
        return (*of_rois, *(_Rule(text, None) for text in self.ignore))

    def _claim(self, name: str, rules: Sequence[_Rule]) -> _Rule | None:
        """The rule that catches a name.

        Raises:
            ConfigError: two rules that say different things of it.
        """
        found = [rule for rule in rules if rule.catches(name)]
        if not found:
            return None
        other = next((rule for rule in found if rule.roi != found[0].roi), None)
        if other is not None:
            raise self._contradiction(name, found[0], other)
        return found[0]

    def _contradiction(self, name: str, first: _Rule, other: _Rule) -> ConfigError:
        if first.roi is None or other.roi is None:
            mapped, ignored = (other, first) if first.roi is None else (first, other)
            what = "A name is both mapped and ignored in the ROI map."
            found = f"{name.strip()!r}, mapped to {mapped.described}, ignored by {ignored.text!r}"
        else:
            what = "A name stands for two ROIs in the ROI map."
            found = f"{_fold(name)!r} under {first.described} and {other.described}"
        fix = "leave it in one of them, or make a pattern narrower"
        return ConfigError(what, where=self.source, found=found, fix=fix)

    def apply(self, names: Iterable[str]) -> Mapped:
        """What each name of a structure set stands for; names that the map does not know are reported, not guessed.

        Raises:
            ConfigError: two rules that say different things of a name.
        """
        rules = self._rules()
        exact = {_fold(rule.text): rule for rule in rules if not rule.is_pattern}
        patterns = [rule for rule in rules if rule.is_pattern]
        rois: dict[str, str] = {}
        ignored: list[str] = []
        unmapped: list[str] = []
        caught: dict[str, list[str]] = {rule.text: [] for rule in rules}
        for name in dict.fromkeys(names):
            own = exact.get(_fold(name))
            rule = self._claim(name, (*((own,) if own else ()), *patterns))
            if rule is None:
                unmapped.append(name)
                continue
            caught[rule.text].append(name)
            if rule.roi is None:
                ignored.append(name)
            else:
                rois[name] = rule.roi
        return Mapped(
            rois=rois,
            ignored=tuple(ignored),
            unmapped=tuple(unmapped),
            caught={text: tuple(n) for text, n in caught.items()},
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
            rois=lists,
            ignore=_names(path, "ignore", data.get("ignore")),
            source=str(path),
            absent=_by_place(path, "absent", data.get("absent")),
            accepted=_by_place(path, "accepted", data.get("accepted")),
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
        waiting = [_item("#  ", name, remarks) for name in undecided]
        lines += ["", "ignore:" if self.ignore or waiting else "ignore: []"]
        lines += [_item("  ", name, remarks) for name in self.ignore]
        if waiting:  # here, so that a name is ignored once its # is taken away
            lines += ["", DECIDE, *waiting]
        for key, by_place in (("absent", self.absent), ("accepted", self.accepted)):
            lines += ["", f"{key}:"]  # also where nothing is below, so that lines can be put there
            for place, rois in by_place.items():
                lines.append(f"  {_quoted(place)}: [{', '.join(_quoted(roi) for roi in rois)}]")
        with atomic_file(path, overwrite=overwrite, kind=ROI_MAP) as temporary:
            write_text(temporary, "\n".join(lines) + "\n")


def _fold(name: str) -> str:
    return name.strip().casefold()


def _item(indent: str, name: str, remarks: Mapping[str, str]) -> str:
    remark = remarks.get(_fold(name), "")
    return f"{indent}- {_quoted(name)}" + (f"  # {remark}" if remark else "")


def _quoted(text: str) -> str:
    """`text` as a YAML scalar on one line, in quotes where it needs them."""
    style = None if text.isprintable() else '"'  # line ends are escapes in double quotes only
    dumped = yaml.safe_dump(text, allow_unicode=True, width=10**6, default_style=style)
    return dumped.removesuffix("...\n").strip()


def _names(path: Path, key: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong_form(path, key, value)
    return tuple(_checked_name(path, name) for name in value)


def _by_place(path: Path, key: str, value: object) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong_form(path, key, value)
    return {
        _checked_name(path, place): _names(path, f"{key}, {place}", rois) for place, rois in value.items()
    }


def _checked_name(path: Path, name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(
            "A name in the ROI map is no text.",
            where=path,
            found=repr(name),
            fix='write numbers, yes, no, on and off in quotes, as in "25"',
        )
    return name


def _wrong_form(path: Path, key: str, value: object) -> ConfigError:
    return ConfigError(
        "The ROI map has the wrong form.",
        where=f"{path}, {key}",
        found="nothing" if not value else type(value).__name__,
        expected="rois: {ROI: [names]}, ignore: [names], absent and accepted: {folder or patient: [ROIs]}",
        fix="contour-ai rois DATA_DIR --out roi-map.yaml writes one to start from",
    )
