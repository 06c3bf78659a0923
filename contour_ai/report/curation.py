"""The page for reviewing suspicious contours of an archive: one HTML file, used with the keyboard."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from contour_ai.files import atomic_file, write_text
from contour_ai.report.page import asset, embedded_json, fill, script


@dataclass(frozen=True, kw_only=True)
class CurationFigure:
    """A figure of each contour, whose distribution the page draws.

    Args:
        label: with its unit.
        decimals: number of decimals shown.
        definition: what is measured, in words for the reader.
    """

    label: str
    decimals: int
    definition: str


FIGURES = (
    CurationFigure(label="volume cm³", decimals=1, definition="of the voxels inside, on the CT"),
    CurationFigure(label="density HU", decimals=0, definition="mean of the voxels inside"),
    CurationFigure(
        label="length mm", decimals=0, definition="along the body, from the lowest to the highest voxel"
    ),
    CurationFigure(
        label="superior mm", decimals=0, definition="of the position expected from the patient's other ROIs"
    ),
    CurationFigure(label="left mm", decimals=0, definition="of the middle of the body in the same slices"),
)
"""The figures of every contour, in the order of `CurationContour.values`."""


class PatientRemark(NamedTuple):
    """A finding on a patient as a whole."""

    text: str
    left_out: bool
    """Whether the patient is left out for it."""


@dataclass(frozen=True, kw_only=True)
class CurationPatient:
    """A patient of the archive.

    Args:
        label: as tables name it.
        place: its patient ID or folder, as the ROI map and --exclude take it; empty where it has none.
        findings: on the patient as a whole.
    """

    label: str
    place: str
    findings: tuple[PatientRemark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CurationContour:
    """A ROI of a patient, with its figures.

    Args:
        patient, roi: numbers in the lists of the page.
        values: of `FIGURES`; None where there is none.
    """

    patient: int
    roi: int
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A contour to look at.

    Args:
        patient, roi: numbers in the lists of the page.
        reasons: why, as sentences.
        left_out: whether training leaves it out as it stands.
        picture: JPEG of three planes; None where nothing of it lies on the CT, or there are too many.
    """

    patient: int
    roi: int
    reasons: tuple[str, ...]
    left_out: bool
    picture: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class CurationPage:
    """What the page shows; suspicions in the order in which they are looked at."""

    title: str
    subtitle: str
    patients: Sequence[CurationPatient]
    rois: Sequence[str]
    contours: Sequence[CurationContour]
    suspicions: Sequence[Suspicion]


def write_curation_page(path: Path, page: CurationPage) -> None:
    """Writes the page, for its owner alone: one HTML file that needs nothing else.

    Raises:
        OutputError: the file cannot be written.
    """
    text = fill(
        asset("curation.html"),
        texts={"title": page.title, "subtitle": page.subtitle},
        raw={
            "style": asset("document.css") + asset("curation.css"),
            "script": script("drawn.js", "curation.js"),
            "data": embedded_json(curation_content(page)),
        },
    )
    with atomic_file(path, overwrite=True, private=True) as temporary:
        write_text(temporary, text)


def curation_content(page: CurationPage) -> dict[str, object]:
    """What the page's script draws."""
    return {
        "figures": [{"label": f.label, "decimals": f.decimals, "definition": f.definition} for f in FIGURES],
        "patients": [
            {
                "label": p.label,
                "place": yaml_text(p.place) if p.place else "",
                "findings": [{"text": text, "leftOut": left_out} for text, left_out in p.findings],
            }
            for p in page.patients
        ],
        "rois": [{"name": roi, "yaml": yaml_text(roi)} for roi in page.rois],
        "contours": [
            [c.patient, c.roi, *(None if v is None else round(v, 2) for v in c.values)] for c in page.contours
        ],
        "suspicions": [
            {
                "patient": s.patient,
                "roi": s.roi,
                "reasons": list(s.reasons),
                "yaml": yaml_text("; ".join(s.reasons)),
                "leftOut": s.left_out,
                "picture": "" if s.picture is None else base64.b64encode(s.picture).decode("ascii"),
            }
            for s in page.suspicions
        ],
    }


def yaml_text(text: str) -> str:
    """A text as YAML in double quotes on one line, in which every character can be seen."""
    return '"' + "".join(_yaml_letter(letter) for letter in text) + '"'


def _yaml_letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
