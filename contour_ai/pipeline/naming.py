"""Which names of an archive stand for which ROI, which are left out and why, and which stop a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contour_ai.csv_files import write_csv
from contour_ai.errors import ConfigError, listed
from contour_ai.structures import NameClass, classify, roi_info, tg263_name
from contour_ai.structures.roi_map import RoiMap

NAMES_FILE = "roi-names.csv"
COLUMNS = ("name", "patients", "what", "roi", "reason")
PATIENTS_PER_LEAST = 20
"""Where data.min_patients is null, a ROI is learnt that at least one in so many patients has."""

What = Literal["mapped", "ignored", "set aside", "to decide"]


@dataclass(frozen=True, kw_only=True)
class NameDecision:
    """What became of one name of an archive.

    Args:
        name: as the structure sets have it.
        patients: that have it.
        what: "ignored" is the map's word, "set aside" that of the rules, "to decide" is left to a person.
        roi: the ROI that it stands for.
        reason: the rule.
        organs: standard names of the ROIs that it may stand for, where a person has to decide.
    """

    name: str
    patients: int
    what: What
    roi: str | None = None
    reason: str = ""
    organs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What became of the names of an archive.

    Args:
        decisions: one for each name, the most common first.
        source: the ROI map, or what stands in for one.
    """

    decisions: tuple[NameDecision, ...] = ()
    source: str = "ROI map"

    @property
    def rois(self) -> dict[str, str]:
        """{name: ROI} of the names that stand for one."""
        return {d.name: d.roi for d in self.decisions if d.roi is not None}

    @property
    def described(self) -> str:
        """How many names became what."""
        count = Counter(d.what for d in self.decisions)
        ignored = f", {count['ignored']} ignored by the map" if count["ignored"] else ""
        left = f", {count['to decide']} that no ROI to learn hangs on" if count["to decide"] else ""
        return f"{count['mapped']} mapped{ignored}, {count['set aside']} set aside{left}"

    def save(self, path: Path) -> None:
        """Writes all names as CSV.

        Raises:
            OutputError: it cannot be written.
        """
        rows = [(d.name, d.patients, d.what, d.roi or "", d.reason) for d in self.decisions]
        write_csv(path, COLUMNS, rows, overwrite=True)

    def refuse_doubts(self, rois: Collection[str]) -> None:
        """Stops where a name that nobody decided on may stand for one of the ROIs to learn.

        Raises:
            ConfigError: there are such names; all of them are listed with the ROI that they resemble.
        """
        doubts = [(d, roi) for d in self.decisions for roi in [_resembled(d, rois)] if roi is not None]
        if doubts:
            raise ConfigError(
                f"{len(doubts)} ROI names are neither mapped nor ignored, and may be ROIs to learn.",
                where=self.source,
                found=listed(
                    f"{d.name} ({roi}? in {d.patients} patient{'s' * (d.patients != 1)}: {d.reason})"
                    for d, roi in doubts
                ),
                fix="write a map with `contour-ai rois DATA_DIR --out roi-map.yaml`, put each of them under "
                "a ROI or under ignore, and give it as --roi-map",
            )


def name_rois(
    patients: Mapping[str, int], roi_map: RoiMap | None = None, wanted: Sequence[str] | None = None
) -> Naming:
    """Decides on every name of an archive.

    Without a map, names stand for the standard names proposed for them. A ROI that is asked for may also be what is set
    aside otherwise (a target, an organ with a margin), by its standard name or spelt as it is asked for.

    Args:
        patients: {name in structure sets: number of patients that have it}.
        roi_map: which names stand for which ROI.
        wanted: ROIs to learn, where they are given.

    Raises:
        ConfigError: two entries of the map say different things of a name.
    """
    ordered = sorted(patients, key=lambda name: (-patients[name], name))
    source = "TG-263 proposals" if roi_map is None else roi_map.source
    if roi_map is None:
        decisions = [_proposed(name, patients[name], wanted or ()) for name in ordered]
        return Naming(decisions=tuple(decisions), source=source)
    applied = roi_map.apply(ordered)
    ignored = set(applied.ignored)
    decisions = []
    for name in ordered:
        if name in applied.rois:
            decision = NameDecision(
                name=name, patients=patients[name], what="mapped", roi=applied.rois[name], reason="map"
            )
        elif name in ignored:
            decision = NameDecision(name=name, patients=patients[name], what="ignored", reason="map")
        else:
            decision = _unmapped(classify(name), patients[name])
        decisions.append(decision)
    return Naming(decisions=tuple(decisions), source=source)


def least_patients(min_patients: int | None, patients: int) -> int:
    """How many patients have to have a ROI for it to be learnt."""
    return max(1, patients // PATIENTS_PER_LEAST) if min_patients is None else min_patients


def learnable(counts: Mapping[str, int], least: int) -> tuple[str, ...]:
    """The ROIs that are learnt where none is asked for: organs that enough patients have."""
    return tuple(roi for roi, n in counts.items() if n >= least and roi_info(roi).interpreted_type == "ORGAN")


def _proposed(name: str, patients: int, wanted: Sequence[str]) -> NameDecision:
    found = classify(name)
    wanted_roi = next((roi for roi in wanted if _folded(roi) == _folded(name)), None)
    if wanted_roi is None and found.tg263_name in wanted:
        wanted_roi = found.tg263_name
    roi = wanted_roi or (found.tg263_name if found.fate == "map" else None)
    if roi is not None:
        return NameDecision(name=name, patients=patients, what="mapped", roi=roi, reason=found.rule)
    return _left(found, patients)


def _unmapped(found: NameClass, patients: int) -> NameDecision:
    """A name that the map does not know: what the rules would map is left to a person as well."""
    if found.fate == "map" and found.tg263_name is not None:
        reason = f"not in the map; reads as {found.tg263_name}"
        organs = (found.tg263_name,)
        return NameDecision(
            name=found.name, patients=patients, what="to decide", reason=reason, organs=organs
        )
    return _left(found, patients)


def _left(found: NameClass, patients: int) -> NameDecision:
    what: What = "to decide" if found.fate == "decide" else "set aside"
    organs = found.organs if what == "to decide" else ()
    return NameDecision(name=found.name, patients=patients, what=what, reason=found.rule, organs=organs)


def _resembled(decision: NameDecision, rois: Iterable[str]) -> str | None:
    """The ROI to learn that a name may stand for; None where it can be none of them."""
    if decision.what != "to decide":
        return None
    letters = _letters(decision.name)
    for roi in rois:
        if roi in decision.organs or tg263_name(roi) in decision.organs:
            return roi
        if len(_letters(roi)) > 3 and _letters(roi) in letters:
            return roi
    return None


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _folded(name: str) -> str:
    return name.strip().casefold()
