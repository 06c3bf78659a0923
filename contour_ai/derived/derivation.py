"""Carries out a recipe: every structure in an order in which what it needs is there, with a note on whatever is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contour_ai.derived import shaping
from contour_ai.derived.margin import Margins
from contour_ai.derived.naming import checked_name, is_pattern, margin_name, matching
from contour_ai.derived.recipe import Derived, Recipe, Step, names_of
from contour_ai.derived.region import Region
from contour_ai.derived.steps import applied, grown, in_words, margins_along_normal
from contour_ai.errors import ConfigError, InputError
from contour_ai.grid import Grid
from contour_ai.slice_names import slices_text
from contour_ai.structures import RoiInfo, roi_info, tg263_name

OnNote = Callable[[str], None]

EXTERNAL = "EXTERNAL"
"""The type of the outline of the body; its name differs (Body, External, Skin)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DerivedRoi:
    """A result: what is written of it, and of what it was made."""

    info: RoiInfo
    region: Region
    description: str
    """For ROIDescription: its ROIs and steps, in words."""
    sources: tuple[str, ...]
    """ROIs of the structure set that it was made of."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceRois:
    """The ROIs that there are, each worked out when it is first asked for.

    Args:
        grid: of the CT.
        regions: {ROI name: function that gives its contours}.
        infos: colours and types of the ROIs; those missing are told from the name.
        withheld: {ROI name: why nothing may be derived from it}.
    """

    grid: Grid
    regions: Mapping[str, Callable[[], Region]]
    infos: Mapping[str, RoiInfo] = field(default_factory=dict)
    withheld: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_regions(
        cls, grid: Grid, regions: Mapping[str, Region], withheld: Mapping[str, str] | None = None
    ) -> SourceRois:
        """From contours that are there already."""
        return cls(
            grid=grid,
            regions={n: (lambda r=r: r) for n, r in regions.items()},  # type: ignore[misc]
            withheld=withheld or {},
        )


def derive_rois(recipe: Recipe, sources: SourceRois, on_note: OnNote) -> list[DerivedRoi]:
    """The structures of a recipe, in its order; those it keeps first.

    Args:
        on_note: told what was missing, skipped, empty or cut off by the scan.

    Raises:
        ConfigError: structures that need each other in a circle, or two of one name.
        InputError: a required structure cannot be made.
        GeometryError: an operation by direction on slices that lie across no axis of the patient.
    """
    return _Derivation(recipe, sources, on_note).results()


class _MissingError(Exception):
    """A ROI that a structure cannot do without is not there; says why."""


@dataclass(frozen=True)
class _Task:
    """One structure to make: an entry of the recipe, for one ROI where the entry is for each of several."""

    entry: Derived
    name: str
    roi: str | None


class _Derivation:
    def __init__(self, recipe: Recipe, sources: SourceRois, on_note: OnNote) -> None:
        self.recipe, self.sources, self.note = recipe, sources, on_note
        self.regions: dict[str, Region] = {}
        self.made: dict[str, DerivedRoi | None] = {}
        self.waiting: list[str] = []
        self.unions: dict[tuple[int, ...], Region] = {}
        self.margins: dict[tuple[int, float], Region] = {}
        self.tasks: dict[str, _Task] = {}
        self.notes_given: set[str] = set()
        self._expand()

    # -- which structures there will be ---------------------------------------------------------------------------

    def _expand(self) -> None:
        """The structures by name. Entries `each` of ROIs that others make come after those."""
        plain = [e for e in self.recipe.structures if e.of is not None]
        for entry in plain:
            self._add(_Task(entry, self._name(entry, None), None))
        for entry in self.recipe.structures:
            if entry.each is None:
                continue
            known = self._names_for(None)
            found = [n for wanted in names_of(entry.each) for n in self._match(wanted, known)]
            found = [n for n in dict.fromkeys(found) if n not in self.sources.withheld or self._withheld(n)]
            if not found:
                self._cannot(entry, entry.name or ", ".join(names_of(entry.each)), self._none(entry.inputs))
            for roi in found:
                self._add(_Task(entry, self._name(entry, roi), roi))

    def _withheld(self, name: str) -> bool:
        self._say(f"ROI {name}: nothing is derived from it, {self.sources.withheld[name]}")
        return False

    def _add(self, task: _Task) -> None:
        same = next((n for n in self.tasks if n.casefold() == task.name.casefold()), None)
        if same is not None:
            raise ConfigError(
                "Two structures of the recipe have the same name.",
                where=self.recipe.source,
                found=f"{same}, {task.name}",
                fix="give one of them another name",
            )
        self.tasks[task.name] = task

    def _name(self, entry: Derived, roi: str | None) -> str:
        if entry.name is not None:
            return checked_name(entry.name.replace("{roi}", roi or ""))
        margin = entry.steps[0].margin
        assert isinstance(margin, float)
        roi = roi or names_of(entry.of)[0]
        return checked_name(margin_name(tg263_name(roi) or roi, margin))

    def _names_for(self, own: str | None) -> list[str]:
        """Names that a structure may use: the recipe's and the structure set's; its own name means the latter's."""
        derived = [n for n in self.tasks if n != own]
        folded = {n.casefold() for n in derived}
        return [*derived, *(n for n in self.sources.regions if n.casefold() not in folded)]

    def _match(self, wanted: str, known: Sequence[str]) -> tuple[str, ...]:
        # A pattern means the patient's own ROIs: what it finds must not depend on what else a recipe makes.
        found = matching(wanted, list(self.sources.regions) if is_pattern(wanted) else known)
        names, note = found.names, found.note
        if (
            not names
            and not note
            and roi_info(wanted).interpreted_type == EXTERNAL
            and not is_pattern(wanted)
        ):
            names = tuple(n for n in self.sources.regions if self._info(n).interpreted_type == EXTERNAL)
            note = f"{wanted} is taken from the external contour {names[0]}" if len(names) == 1 else ""
            names = names if note else ()
        if note:
            self._say(note)
        return names

    # -- making them ------------------------------------------------------------------------------------------------

    def results(self) -> list[DerivedRoi]:
        kept = list(self._kept())
        order = {id(e): n for n, e in enumerate(self.recipe.structures)}
        tasks = sorted(self.tasks.values(), key=lambda t: order[id(t.entry)])
        made = [(task, self._make(task.name)) for task in tasks]
        results = [r for task, r in made if r is not None and task.entry.write]
        replaced = {r.info.name.casefold() for r in results}
        for roi in kept:
            if roi.info.name.casefold() in replaced:
                self._say(
                    f"ROI {roi.info.name} of the structure set is not kept: the recipe makes one of that name"
                )
        return [*(k for k in kept if k.info.name.casefold() not in replaced), *results]

    def _kept(self) -> Iterator[DerivedRoi]:
        names = list(self.sources.regions)
        found = dict.fromkeys(n for wanted in self.recipe.keep for n in self._match(wanted, names))
        for wanted in self.recipe.keep:
            if not matching(wanted, names).names:
                self._say(f"there is no ROI {wanted} to keep")
        for name in found:
            if name in self.sources.withheld:
                self._say(f"ROI {name} is not kept: {self.sources.withheld[name]}")
                continue
            region = self._source(name)
            if region.is_empty:
                self._say(f"ROI {name} has no contours on this CT and is not kept")
                continue
            yield DerivedRoi(
                info=self._info(name), region=region, description="as in the structure set", sources=(name,)
            )

    def _make(self, name: str) -> DerivedRoi | None:
        """A structure, made once; None where it could not be."""
        if name in self.made:
            return self.made[name]
        if name in self.waiting:
            circle = [*self.waiting[self.waiting.index(name) :], name]
            raise ConfigError(
                "Structures of the recipe need each other in a circle.",
                where=self.recipe.source,
                found=" needs ".join(circle),
                fix="derive one of them from ROIs of the structure set",
            )
        task = self.tasks[name]
        self.waiting.append(name)
        try:
            self.made[name] = self._made(task)
        except _MissingError as missing:
            self._cannot(task.entry, name, str(missing))
            self.made[name] = None
        finally:
            self.waiting.pop()
        return self.made[name]

    def _made(self, task: _Task) -> DerivedRoi | None:
        wanted = (task.roi,) if task.roi is not None else task.entry.inputs
        inputs = self._regions(task, wanted, needed=True)
        region = shaping.united([r for _, r in inputs]) if inputs else Region({}, self.sources.grid)
        words = [" + ".join(n for n, _ in inputs)]
        used = [n for n, _ in inputs]
        for step in task.entry.steps:
            before = region
            operands = self._regions(task, step.operands, needed=not step.optional)
            region = self._stepped(task.name, region, step, [r for _, r in operands])
            used += [n for n, _ in operands]
            words.append(in_words(step, [n for n, _ in operands]))
            if step.operands and not operands:
                words.pop()  # an optional step, which the notes say was left out
            if region.is_empty and not before.is_empty:
                words[-1] += " (nothing left)"
        if region.is_empty:
            self._cannot(task.entry, task.name, f"nothing is left of it ({'; '.join(words)})")
            return None
        sources = tuple(dict.fromkeys(s for n in used for s in self._origins(n)))
        return DerivedRoi(
            info=self._styled(task), region=region, description="; ".join(words), sources=sources
        )

    def _regions(self, task: _Task, wanted: Sequence[str], *, needed: bool) -> list[tuple[str, Region]]:
        """The ROIs that names stand for, but for those that are missing, each of which is said once."""
        known = self._names_for(task.name)
        result: dict[str, Region] = {}
        for one in wanted:
            names = (one,) if one == task.roi else self._match(one, known)
            for name in names:
                region = self._region(name, task.name)
                if region is not None and not region.is_empty:
                    result[name] = region
            if not names and len(wanted) > 1:
                self._say(f"{task.name}: {self._none((one,))}; made without it")
        if not result and wanted:
            why = self._none(wanted)
            if needed:
                raise _MissingError(why)
            self._say(f"{task.name}: {why}; the step is left out")
        return list(result.items())

    def _region(self, name: str, own: str) -> Region | None:
        if name in self.tasks and name != own:
            made = self._make(name)
            return None if made is None else made.region
        if name in self.sources.withheld:
            self._withheld(name)
            return None
        return self._source(name)

    def _source(self, name: str) -> Region:
        if name not in self.regions:
            self.regions[name] = self.sources.regions[name]()
        return self.regions[name]

    def _origins(self, name: str) -> tuple[str, ...]:
        made = self.made.get(name)
        return made.sources if made is not None else (name,)

    def _stepped(self, name: str, region: Region, step: Step, operands: Sequence[Region]) -> Region:
        if region.is_empty or (step.operands and not operands and step.operation != "unite"):
            return region
        if step.margin is not None:
            margins = step.margin if isinstance(step.margin, Margins) else Margins.all_around(step.margin)
            self._say_of_ends(name, region, margins)
        if step.ring is not None:
            self._say_of_ends(name, region, Margins.all_around(step.ring.outer_mm))
        if step.operation in ("margin", "ring"):
            gaps = shaping.count_gaps(region)
            if gaps:
                self._say(
                    f"{name}: {gaps} slice(s) within the ROI have no contour and count as empty; "
                    "a step `interpolate` before draws them"
                )
        result = applied(region, step, self._union(operands), self._grown)
        if step.operation == "interpolate" and step.interpolate is not None:
            drawn = sorted(set(result.slices) - set(region.slices))
            if drawn:
                self._say(f"{name}: drawn by shape on {slices_text(self.sources.grid, drawn)}")
        return result

    def _union(self, operands: Sequence[Region]) -> Region | None:
        """The union of a step's ROIs, made once for all structures that need the same."""
        if not operands:
            return None
        key = tuple(id(r) for r in operands)  # all are kept as long as this
        if key not in self.unions:
            self.unions[key] = shaping.united(operands)
        return self.unions[key]

    def _grown(self, region: Region, margin_mm: float) -> Region:
        """A margin around such a union, made once: often it is that of the body."""
        key = id(region), margin_mm
        if key not in self.margins:
            self.margins[key] = grown(region, margin_mm)
        return self.margins[key]

    def _say_of_ends(self, name: str, region: Region, margins: Margins) -> None:
        """Says where the image ends within a margin."""
        grid, span = self.sources.grid, region.slice_range
        assert span is not None
        heights, widths = grid.slice_offsets_mm, grid.slice_widths_mm
        cut_off, not_shrunk = [], []
        for margin, own, end in zip(
            margins_along_normal(grid, margins), span, (0, len(heights) - 1), strict=True
        ):
            space_mm = abs(float(heights[own] - heights[end])) + float(widths[end]) / 2
            if margin > 0 and (own == end or space_mm < margin):
                cut_off.append(slices_text(grid, [end]))
            if margin < 0 and own == end:
                not_shrunk.append(slices_text(grid, [end]))
        for ends, what in (
            (cut_off, "the margin reaches beyond it and is cut off there"),
            (not_shrunk, "the ROI is taken to go on beyond, and is not shrunk there"),
        ):
            if ends:
                self._say(f"{name}: the scan ends at {' and '.join(ends)}; {what}")
        (_, rows, columns), _ = region.filled
        reach = [int(np.ceil(max(max(margins.values), 0.0) / s)) for s in grid.spacing_mm[1:]]
        sizes = grid.shape_kij[1:]
        if any(
            s.start - r < 0 or s.stop + r > n for s, r, n in zip((rows, columns), reach, sizes, strict=True)
        ):
            self._say(f"{name}: reaches the border of the image, beyond which nothing can be drawn")

    # -- words ------------------------------------------------------------------------------------------------------

    def _styled(self, task: _Task) -> RoiInfo:
        entry = task.entry
        info = roi_info(task.name)
        color = info.color
        if entry.color is not None:
            color = (int(entry.color[1:3], 16), int(entry.color[3:5], 16), int(entry.color[5:7], 16))
        return RoiInfo(
            name=task.name,
            color=color,
            interpreted_type=entry.type or info.interpreted_type,
            mirror=info.mirror,
        )

    def _info(self, name: str) -> RoiInfo:
        return self.sources.infos.get(name) or roi_info(name)

    def _none(self, wanted: Sequence[str]) -> str:
        stopped = [n for n in self.sources.withheld if any(n in matching(w, [n]).names for w in wanted)]
        if stopped:
            return f"{', '.join(stopped)}: {self.sources.withheld[stopped[0]]}"
        why = f"there is no ROI {' or '.join(wanted)} with contours"
        meant = [n for w in wanted if is_pattern(w) for n in matching(w, list(self.tasks)).names]
        return why + f" (patterns mean the structure set's ROIs; name {', '.join(meant)})" * bool(meant)

    def _cannot(self, entry: Derived, name: str, why: str) -> None:
        if entry.required:
            raise InputError(
                f"The recipe requires {name}, which cannot be made.",
                where=self.recipe.source,
                found=f"{why}; ROIs: {', '.join(self.sources.regions) or 'none'}",
                fix="contour what is missing, or set required: false in the recipe",
            )
        self._say(f"{name} is skipped: {why}")

    def _say(self, text: str) -> None:
        if text not in self.notes_given:
            self.notes_given.add(text)
            self.note(text)
