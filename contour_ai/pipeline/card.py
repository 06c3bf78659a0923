"""The text of MODEL_CARD.md, made from what a bundle says about itself, in the six sections of AID-RT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from contour_ai.bundle import ModelBundle, without_defaults
from contour_ai.bundle.poor_models import weaknesses
from contour_ai.bundle.seen_series import series_in_words
from contour_ai.pipeline.card_chapters import (
    after_the_network,
    cross_validation,
    extents_chapter,
    how_text,
    list_text,
    otherwise,
    probabilities,
    results_text,
    rois_text,
    second_reader,
    usual,
)

NOT_A_DEVICE = (
    "Not a medical device; for research and local commissioning. "
    "Every contour needs review by a qualified person."
)
SOURCE = (
    "Sections after AID-RT: Barragán-Montero et al., Standardising Artificial Intelligence Documentation in "
    "RadioTherapy with a domain-specific model card, Physics and Imaging in Radiation Oncology 2026, "
    "doi:10.1016/j.phro.2026.100940."
)
GAP = "**Gap**"
LONGEST_LINE = 160
"""Characters of a line, where it can be broken; tables, headings and code have lines of any length."""
_ITEM = re.compile(r"\s*(?:[-+*>]|\d+[.)])\s+")
_BREAK = re.compile(r" +(?![-+*>|#=~<]|\d+[.)](?:\s|$))")
"""Where a line may be broken: not before what would begin a list, a table or a heading in a line of its own."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What only a person can say about a model: a chapter of `notes` with this heading, or one of the others, says it.

    Args:
        section: number of the section.
        heading: of the chapter.
        asked: what belongs there.
        others: headings that mean the same.
    """

    section: int
    heading: str
    asked: str
    others: tuple[str, ...] = ()

    def heading_in(self, notes: Mapping[str, str]) -> str | None:
        """The heading under which it is said."""
        wanted = {name.casefold() for name in (self.heading, *self.others)}
        return next((heading for heading in notes if heading.casefold() in wanted), None)


FIELDS = (
    Field(section=0, heading="Changes of the card", asked="what changed since an earlier card, and its DOI"),
    Field(
        section=1, heading="Intended users", asked="who may use it, with what training, and on which patients"
    ),
    Field(
        section=1,
        heading="Known limits",
        asked="where it is known to fail",
        others=("Limits", "What it cannot do", "What it never saw"),
    ),
    Field(section=1, heading="Developers", asked="names, institution, contact, conflicts of interest"),
    Field(
        section=1, heading="Licence", asked="of the weights, where the model may be had, and how to cite it"
    ),
    Field(
        section=3,
        heading="Data",
        asked="source, period, consent or approval, inclusion and exclusion, age and sex, scanners, protocols",
    ),
    Field(
        section=3,
        heading="Contours",
        asked="who drew them, by which guideline, who reviewed them",
        others=("Rules of the contours",),
    ),
    Field(
        section=4,
        heading="External evaluation",
        asked="patients of another hospital or period, and what was found there",
    ),
    Field(
        section=5,
        heading="Ethical use",
        asked="whom it may treat worse than others, and what is done about it",
    ),
    Field(
        section=5,
        heading="Risks",
        asked="what can go wrong with its contours, how it is noticed, what is done",
    ),
    Field(
        section=5,
        heading="Monitoring",
        asked="how its contours are followed in use (`contour-ai monitor`), and when it is withdrawn",
    ),
)
"""In the order of the card."""


def model_card(bundle: ModelBundle) -> str:
    """Markdown: what the model is for, what it was made from and how, how good it is, how to make it again.

    All of it stands in the description, so that the card can be made anew whenever that changes. What only a person can
    say is taken from `notes`; where it is not there, a gap is marked.
    """
    sections = (
        _metadata(bundle),
        _basic(bundle),
        _technical(bundle),
        _training(bundle),
        _evaluation(bundle),
        _other(bundle),
    )
    parts = [f"# {bundle.name} {bundle.version}", bundle.description, f"**{NOT_A_DEVICE}**", _gaps(bundle)]
    for number, (heading, chapters) in enumerate(sections):
        parts += [f"## {number}. {heading}", *chapters, *_fields(bundle, number)]
    parts += _further(bundle)
    return _wrapped("\n\n".join(part for part in parts if part)) + "\n"


def missing_fields(bundle: ModelBundle) -> list[Field]:
    """What only a person can say, and nobody has."""
    return [field for field in FIELDS if field.heading_in(bundle.notes) is None]


def _gaps(bundle: ModelBundle) -> str:
    missing = missing_fields(bundle)
    if not missing:
        return SOURCE
    names = ", ".join(field.heading for field in missing)
    return (
        f"{SOURCE} What only a person can say is marked as a gap where nobody has said it ({names}): write it into "
        "`notes` of model.yaml under that heading, then `contour-ai models card`."
    )


def _fields(bundle: ModelBundle, section: int) -> list[str]:
    """What persons said in a section, and the gaps."""
    chapters, gaps = [], []
    for field in FIELDS:
        if field.section != section:
            continue
        heading = field.heading_in(bundle.notes)
        if heading is None:
            gaps.append(f"- {GAP}: {field.heading} – {field.asked}.")
        else:
            chapters += [f"### {heading}", bundle.notes[heading].strip()]
    return [*chapters, "\n".join(gaps)]


class _Chapter(NamedTuple):
    title: str
    parts: list[str]


def _metadata(bundle: ModelBundle) -> _Chapter:
    facts = {
        "card of": f"{bundle.name} {bundle.version}",
        "date of the model": bundle.provenance.date,
        "made from": "model.yaml, by contour-ai",
    }
    return _Chapter("Card metadata", [list_text(facts)])


def _basic(bundle: ModelBundle) -> _Chapter:
    facts = {
        "name and version": f"{bundle.name} {bundle.version}",
        "task": "segmentation of organs in CT",
        "part of the body": bundle.region,
        "kind": bundle.kind,
        "clearance": "none: no medical device. Whether a department has commissioned it says `contour-ai models show`",
        "architecture": "residual U-Net, three-dimensional",
    }
    found = weaknesses(bundle)
    poor = ["### What is poor about it", "\n".join(f"- {sentence}." for sentence in found)] if found else []
    return _Chapter("Model basic information", [list_text(facts), "### Intended use", _use(bundle), *poor])


def _technical(bundle: ModelBundle) -> _Chapter:
    facts = {
        "input": "one CT series",
        "output": f"DICOM RTSTRUCT with {', '.join(bundle.roi_names)}",
        "software": bundle.provenance.made_with,
        "hardware": bundle.training.device,
        "weights": "safetensors; their SHA-256 stands in model.yaml",
    }
    parts = [
        list_text(facts),
        "### How it works",
        how_text(bundle),
        *after_the_network(bundle),
        *otherwise(bundle.results),
        *probabilities(bundle),
        *second_reader(bundle),
    ]
    return _Chapter("Model technical specifications", parts)


def _training(bundle: ModelBundle) -> _Chapter:
    data = without_defaults(replace(bundle.data, rois={}, seen_series=(), trained_on=None))
    facts = {
        **data,
        **without_defaults(bundle.training),
        "series": series_in_words(bundle.data.seen_series),
        "patients and scans": "" if bundle.data.trained_on is None else bundle.data.trained_on.in_words(),
    }
    chapters = ["### Data and training", list_text(facts), "### ROIs", rois_text(bundle), *usual(bundle)]
    chapters += extents_chapter(bundle)
    provenance = without_defaults(replace(bundle.provenance, commands=()))
    chapters += ["### Provenance", list_text(provenance)]
    if commands := bundle.provenance.commands:
        chapters += ["### Making it again", "```bash\n" + "\n".join(map(_continued, commands)) + "\n```"]
    return _Chapter("Training data, methodology, and information", chapters)


def _evaluation(bundle: ModelBundle) -> _Chapter:
    chapters = ["### Results", results_text(bundle.results), *cross_validation(bundle)]
    own = (
        "A department's own commissioning (`contour-ai commission`) is recorded outside the model, for these weights "
        "and rules alone; `contour-ai commission --dossier` drafts the file that belongs to it."
    )
    title = "Evaluation data, methodology, and results (commissioning)"
    return _Chapter(title, [*chapters, "### Commissioning", own])


def _other(bundle: ModelBundle) -> _Chapter:
    text = (
        "Every ROI and every patient gets a verdict (`clear`, `look`, `stop`) from shape, position, density and "
        "confidence; what is `stop` is not written. A verdict that is clear is no review. The model was measured on "
        "the patients above alone: other scanners, protocols, ages, implants and operations can give other contours."
    )
    return _Chapter("Other considerations", [text])


def _further(bundle: ModelBundle) -> list[str]:
    """Chapters of `notes` under headings of their own."""
    taken = {field.heading_in(bundle.notes) for field in FIELDS}
    others = {heading: text for heading, text in bundle.notes.items() if heading not in taken}
    return [part for heading, text in others.items() for part in (f"### {heading}", text.strip())]


def _use(bundle: ModelBundle) -> str:
    if bundle.kind == "phantom":
        return (
            "Shows that the software works, on phantoms drawn by `contour-ai sample`. It has never seen a patient, "
            "must never contour one, and is never the default of `contour-ai predict`."
        )
    if bundle.data.saw_no_patient:
        return (
            "For research. It has never seen a patient: what it learnt from was drawn. Its contours on a patient are "
            "not for treatment, and it is never the default of `contour-ai predict`."
        )
    if drawings := bundle.data.rois_of_drawings:
        return (
            f"For research. {', '.join(drawings)} it has learnt from drawings alone: their contours on a patient are "
            "not for treatment. For the others, compare its contours with your own on a sample of your patients "
            "before use (`contour-ai evaluate`), and again after every change of scanner or protocol."
        )
    return (
        "Contours on CT like that of its training patients. Before use, compare its contours with your own on a "
        "sample of your patients (`contour-ai evaluate`), and again after every change of scanner or protocol."
    )


def _wrapped(markdown: str) -> str:
    """The text with paragraphs and list items in lines of at most LONGEST_LINE; all else stays as it is."""
    done: list[str] = []
    block: list[str] = []
    in_code = False
    for line in markdown.splitlines():
        is_fence = line.lstrip().startswith(("```", "~~~"))
        stays = in_code or is_fence or not line.strip() or line.startswith(("|", "#", "    ", "<"))
        in_code ^= is_fence
        if stays or _ITEM.match(line):
            done += _wrapped_block(block)
            block = []
        if stays:
            done.append(line)
        else:
            block.append(line)
    return "\n".join(done + _wrapped_block(block))


def _continued(command: str) -> str:
    """A shell command in lines of at most LONGEST_LINE, where its options allow."""
    first, *options = command.split(" --")
    lines = [first]
    for option in options:
        if len(lines[-1]) + len(option) + len(" -- \\") <= LONGEST_LINE:
            lines[-1] += f" --{option}"
        else:
            lines.append(f"  --{option}")
    return " \\\n".join(lines)


def _wrapped_block(lines: list[str]) -> list[str]:
    """A paragraph or a list item: lines below the first of an item begin under its text."""
    has_hard_breaks = any(line.endswith(("  ", "\\")) for line in lines[:-1])
    if has_hard_breaks or max(map(len, lines), default=0) <= LONGEST_LINE:
        return lines
    item = _ITEM.match(lines[0])
    marker = item[0] if item else ""
    first, *words = _BREAK.split(" ".join([lines[0][len(marker) :], *map(str.strip, lines[1:])]).strip())
    found = [marker + first]
    for word in words:
        if len(found[-1]) + 1 + len(word) <= LONGEST_LINE:
            found[-1] += f" {word}"
        else:
            found.append(" " * len(marker) + word)
    return found
