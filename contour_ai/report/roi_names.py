"""The page of the ROI names of an archive: mapped, set aside with the rule, and to decide, with counts and volumes."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from contour_ai.dicom.census import Census, RoiCount
from contour_ai.files import atomic_file, write_text
from contour_ai.report.curation import yaml_text
from contour_ai.report.page import asset, embedded_json, fill, script
from contour_ai.structures.name_patterns import entry_for

MOST_VOLUMES = 300
"""Of more than that, evenly picked ones are drawn."""


def write_names_page(path: Path, census: Census, title: str, *, overwrite: bool = False) -> None:
    """Writes the page, for its owner alone: one HTML file that needs nothing else.

    Args:
        title: what the archive or list is called.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    counts = (len(census.mapped), len(census.set_aside), len(census.undecided))
    subtitle = f"{sum(counts)} names: {counts[0]} mapped, {counts[1]} set aside, {counts[2]} to decide"
    text = fill(
        asset("roi_names.html"),
        texts={"title": f"ROI names of {title}", "subtitle": subtitle},
        raw={
            "style": asset("document.css") + asset("roi_names.css"),
            "script": script("drawn.js", "roi_names.js"),
            "data": embedded_json(names_content(census)),
        },
    )
    with atomic_file(path, overwrite=overwrite, private=True) as temporary:
        write_text(temporary, text)


def names_content(census: Census) -> dict[str, object]:
    """What the page's script draws; a rule that set names aside comes with all of them."""
    return {
        "of": "patients" if census.patients else "structure sets",
        "names": [_name(roi) for roi in census.rois],
        "remarks": [*census.remarks, *census.problems],
    }


def _name(roi: RoiCount) -> dict[str, object]:
    volumes = roi.volumes_cm3
    step = max(1, -(-len(volumes) // MOST_VOLUMES))
    return {
        "name": roi.name,
        "yaml": yaml_text(entry_for(roi.name)),
        "fate": roi.found.fate,
        "roi": roi.roi or "",
        "kind": roi.found.kind.value,
        "rule": roi.found.rule,
        "organs": list(roi.found.organs),
        "count": roi.patients,
        "median": round(median(volumes), 2) if volumes else None,
        "volumes": [round(v, 2) for v in (*volumes[::step], *volumes[-1:])] if volumes else [],
    }
