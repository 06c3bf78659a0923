"""A recipe: which structures are derived from which, step by step.

A YAML file; every key is explained, unknown ones are refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from contour_ai.derived.margin import Margins
from contour_ai.derived.operations import (
    Apart,
    Cut,
    End,
    Extension,
    Gaps,
    Names,
    Parts,
    Ring,
    Split,
)
from contour_ai.derived.shaping import HullKind
from contour_ai.errors import ConfigError
from contour_ai.settings import SET_BY_PROGRAM, field_docs, from_mapping
from contour_ai.structures.roi_record import INTERPRETED_TYPES
from contour_ai.text_files import read_text_file
from contour_ai.yaml_files import parse_yaml, read_yaml

COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation on what the steps before have made. Each step has exactly one key."""

    margin: float | Margins | None = None
    """Millimetres in all directions, or {left, right, anterior, posterior, superior, inferior}; negative shrink."""
    ring: Ring | None = None
    """{inner_mm, outer_mm}: what lies between two distances from the surface."""
    unite: Names | None = None
    """Adds these ROIs."""
    intersect: Names | None = None
    """Keeps what also lies in one of these ROIs."""
    subtract: Names | None = None
    """Takes these ROIs away."""
    keep_inside: Apart | None = None
    """{rois, gap_mm}: keeps what lies inside, at least gap_mm from the surface; {rois: Body, gap_mm: 5} crops from
    skin."""
    keep_outside: Apart | None = None
    """{rois, gap_mm}: takes away what is nearer than gap_mm: {rois: PTV_*, gap_mm: 3} crops from targets."""
    hull: HullKind | None = None
    """Convex hull: "slice" of each slice, "volume" in three dimensions."""
    fill_holes: bool | None = None
    """true: fills what contours enclose within a slice."""
    remove_parts: Parts | None = None
    """{below_cm3, keep}: removes small connected parts."""
    smooth: float | None = None
    """Width of a Gauss filter in mm; no contour moves farther than that."""
    interpolate: Gaps | None = None
    """{largest_gap_mm}: draws the slices between contoured ones, by shape."""
    extend: Extension | None = None
    """{superior_mm, inferior_mm}: repeats the last contours along the body."""
    cut: Cut | None = None
    """{to, superior_mm, inferior_mm}: keeps the stretch of the body where another ROI lies, and so far beyond."""
    extent: End | None = None
    """{end, rois, at, offset_mm}: where the ROI ends, above or below: a department's rule instead of the model's."""
    split: Split | None = None
    """{side, at}: keeps the patient's left or right side."""
    optional: bool = False
    """Beside the operation. true: where its ROIs are missing, the step is left out, with a note. false: the structure
    is skipped then, for it would not be what its name says."""

    def __post_init__(self) -> None:
        given = [name for name in self._operations() if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                "A step needs exactly one operation.",
                found=", ".join(given) or "none",
                expected=", ".join(self._operations()),
                fix="write one step for each operation, in their order",
            )
        if self.fill_holes is False:
            raise ConfigError("fill_holes can only be true; leave the step out.")
        if self.smooth is not None and not 0 < self.smooth <= 50:
            raise ConfigError(
                "The width of smoothing is out of range.", found=self.smooth, expected="0 to 50 mm"
            )
        if isinstance(self.margin, float):
            Margins.all_around(self.margin)

    @classmethod
    def _operations(cls) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(cls) if f.name != "optional")

    @property
    def operation(self) -> str:
        """The name of the operation."""
        return next(name for name in self._operations() if getattr(self, name) is not None)

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of other ROIs that the step needs, as they are written."""
        value = getattr(self, self.operation)
        if isinstance(value, (Apart, End)):
            value = value.rois
        elif isinstance(value, Cut):
            value = value.to
        elif isinstance(value, Split):
            value = value.at
        elif self.operation not in ("unite", "intersect", "subtract"):
            value = None
        return names_of(value)


@dataclass(frozen=True, kw_only=True)
class Derived:
    """One structure to derive, or one for each of several ROIs."""

    name: str | None = None
    """Its name; {roi} stands for the name of the ROI it is derived from. Without one, a margin of an organ is named as
    TG-263 has it: SpinalCord with 5 mm is SpinalCord_PRV05."""
    of: Names | None = None
    """The ROI it begins with, or several, united."""
    each: Names | None = None
    """Instead of `of`: one structure for each of these ROIs."""
    steps: tuple[Step, ...] = ()
    """Operations, one after the other. Without any, the contours are copied as they are, under the new name."""
    type: str | None = None
    """RT ROI interpreted type: ORGAN, AVOIDANCE, PTV, CONTROL ... Without one: told from the name."""
    color: str | None = None
    """As in "#ff8800". Without one: TG-263's, or one made from the name."""
    required: bool = False
    """true: a patient without the ROIs, or an empty result, is refused. false: it is skipped, with a note."""
    write: bool = True
    """false: an intermediate result, which is not written."""

    def __post_init__(self) -> None:
        if (self.of is None) == (self.each is None):
            raise ConfigError(
                "A structure needs either `of` or `each`.",
                where=self.name,
                fix="of: one structure of one or several ROIs; each: one structure for every ROI",
            )
        if self.each is not None and self.name is not None and "{roi}" not in self.name:
            raise ConfigError(
                "Structures for each of several ROIs need {roi} in their name.",
                where=self.name,
                fix='for example "{roi}_PRV05"',
            )
        if self.type is not None:
            object.__setattr__(self, "type", self.type.strip().upper())
        if self.type is not None and self.type not in INTERPRETED_TYPES:
            raise ConfigError(
                "Unknown RT ROI interpreted type.",
                where=self.name,
                found=self.type,
                expected=", ".join(sorted(INTERPRETED_TYPES)),
            )
        if self.color is not None and not COLOR.fullmatch(self.color):
            raise ConfigError('A colour is written as "#rrggbb".', where=self.name, found=self.color)
        if self.name is not None and not self.name.strip():
            raise ConfigError("A structure's name is empty.")
        if self.name is None and not self._names_itself():
            raise ConfigError(
                "This structure needs a name.",
                where=", ".join(names_of(self.of or self.each)),
                expected="a name; only a structure made by one margin, the same in all directions, has one of its own",
            )

    def _names_itself(self) -> bool:
        value = self.steps[0].margin if len(self.steps) == 1 else None
        return isinstance(value, float) and value > 0 and len(names_of(self.of or self.each)) >= 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the ROIs it begins with, as they are written."""
        return names_of(self.each if self.of is None else self.of)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Structures to derive, in the order in which they are written."""

    description: str = ""
    """What the recipe is for."""
    keep: tuple[str, ...] = ()
    """ROIs of the structure set that are written as they are, before the derived ones; ["*"] for all."""
    structures: tuple[Derived, ...]
    """What is derived. A structure may use others of the recipe, in any order, by their names."""
    source: str = dataclasses.field(default="", metadata=SET_BY_PROGRAM)
    """Set when the recipe is read: its name or path."""
    sha256: str = dataclasses.field(default="", metadata=SET_BY_PROGRAM)
    """Set when the recipe is read: of its text."""

    def __post_init__(self) -> None:
        if not self.structures:
            raise ConfigError("The recipe derives no structure.", where=self.source or None)


def names_of(value: Names | None) -> tuple[str, ...]:
    """One name, or several, as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files("contour_ai.derived").joinpath("recipes")
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_recipe(source: str | Path | Mapping[str, object] | Recipe) -> Recipe:
    """A recipe by its name, from a YAML file, or from a mapping.

    Raises:
        ConfigError: no such recipe, or one that cannot be used; the key concerned is named.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return _parsed(dict(source), "the recipe given", "")
    if str(source) in recipe_names():
        folder = resources.files("contour_ai.derived").joinpath("recipes")
        text = folder.joinpath(f"{source}.yaml").read_text(encoding="utf-8")
        return _parsed(parse_yaml(text), str(source), _sha256(text))
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            "No such recipe.",
            found=source,
            expected=f"a YAML file, or one of {', '.join(recipe_names())}",
            fix="contour-ai derive --print-recipe shows what a recipe looks like",
        )
    content = read_yaml(path, "The recipe")
    return _parsed(content, str(path), _sha256(read_text_file(path)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _parsed(mapping: object, source: str, sha256: str) -> Recipe:
    recipe = from_mapping(Recipe, mapping, where=source)
    return dataclasses.replace(recipe, source=source, sha256=sha256)


EXAMPLE = """\
description: Margins and a ring for a plan of the head and neck
keep: []
structures:
- each: [SpinalCord, Brainstem]      # SpinalCord_PRV05, Brainstem_PRV05
  steps: [{margin: 5}]
- name: PTV_all
  of: PTV*
  steps:
  - keep_inside: {rois: Body, gap_mm: 5}
  type: PTV
- name: Ring_PTV
  of: PTV_all
  steps:
  - ring: {inner_mm: 3, outer_mm: 23}
  - keep_inside: {rois: Body}
  type: CONTROL
- name: "{roi}_opt"
  each: Parotid_*
  steps:
  - keep_outside: {rois: PTV_all, gap_mm: 3}
"""


def explained() -> str:
    """Every key of a recipe with its explanation, and an example that can be used."""
    lines = ["# A recipe for contour-ai derive: an example first, then every key.", "", EXAMPLE.rstrip(), ""]
    sections = (
        ("The recipe", Recipe),
        ("A structure", Derived),
        ("A step, one of", Step),
        ("margin, by direction in the patient", Margins),
        ("ring", Ring),
        ("keep_inside, keep_outside", Apart),
        ("remove_parts", Parts),
        ("interpolate", Gaps),
        ("extend", Extension),
        ("cut", Cut),
        ("extent", End),
        ("split", Split),
    )
    for title, cls in sections:
        lines.append(f"# {title}")
        docs = field_docs(cls)
        for field in dataclasses.fields(cls):
            if cls is Recipe and field.name in ("source", "sha256"):
                continue
            text = f"{field.name}: {docs.get(field.name, '')}{_default_of(field)}"
            lines += textwrap.wrap(text, 110, initial_indent="#   ", subsequent_indent="#       ")
        lines.append("#")
    lines.append(f"# Recipes that come with contour-ai, by name: {', '.join(recipe_names())}")
    return "\n".join(lines) + "\n"


def _default_of(field: dataclasses.Field) -> str:  # type: ignore[type-arg]
    if field.default is dataclasses.MISSING:
        return " (needed)"
    if field.default in (None, "", ()):
        return ""
    value = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f" (default: {value})"
