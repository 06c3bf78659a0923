"""``contour-ai inspect``: what is in a folder, what is wrong with it, and what to do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import out, progress_bar, styled

if TYPE_CHECKING:
    from contour_ai.dicom.inspection import Inspection, SeriesReport, StructureSetReport
    from contour_ai.grid import Grid


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Say what is in PATH: CT series, structure sets, their ROIs, problems, and what to do about them.

    Everything is read as the other commands would read it, pixels included; nothing is changed. The exit status is 3
    where no CT series can be used, otherwise 0, also with problems.
    """
    from contour_ai.dicom.inspection import inspect
    from contour_ai.errors import InputError

    with progress_bar() as on_progress:
        found = inspect(path, on_progress)
    archive = found.archive
    out().print(f"{path}: {len(archive.ct_series)} CT series, {len(archive.structure_sets)} RTSTRUCT")
    for report in found.series:
        _print_series(report)
    _print_others(found)
    _print_problems(found)
    if not found.usable:
        raise InputError(
            "Nothing here can be used: there is no CT series that can be read.",
            where=path,
            found=found.archive,
            expected="the DICOM files of at least one CT series",
            fix="see the problems above"
            if any(found.all_problems())
            else "give the folder with the CT slices",
        )


def _print_series(report: SeriesReport) -> None:
    files = report.files
    out().print()
    out().print(styled(("CT series", "bold"), f" {files.series_instance_uid or 'without UID'}"))
    patient = files.patient_id or "without ID"
    out().print(f'  patient {patient}, "{files.description}", {files.slices} slices')
    if report.ct is None:
        out().print(styled("  ", ("cannot be used", "red"), ", see the problems below"))
    else:
        grid, header = report.ct.grid, report.ct.header
        k, i, j = (f"{mm:.4g}" for mm in grid.spacing_mm)
        position = str(header.get("PatientPosition") or "no patient position")
        rows, columns = grid.shape_kij[1:]
        out().print(
            f"  {rows} x {columns} pixels of {i} x {j} mm, slices {k} mm apart, {_plane(grid)}, {position}"
        )
    if not report.structure_sets:
        out().print("  no structure set")
    for structure_set in report.structure_sets:
        _print_structure_set(structure_set)


def _plane(grid: Grid) -> str:
    """The plane of the slices in a word."""
    normal = [abs(float(v)) for v in grid.normal]
    axis = normal.index(max(normal))
    oblique = "" if max(normal) > 0.9994 else "oblique, nearly "  # 2 degrees
    return oblique + ("sagittal", "coronal", "axial")[axis]


def _print_structure_set(report: StructureSetReport) -> None:
    from rich.table import Table
    from rich.text import Text

    file = report.file
    title = f'  structure set {file.path}: "{file.label}", {file.created or "no date"}, {len(file.roi_names)} ROIs'
    out().print(title)
    if not report.rois:
        return
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("ROI", "TG-263 name"):
        table.add_column(heading, overflow="fold")
    for heading in ("contours", "slices", "cm³"):
        table.add_column(heading, justify="right")
    for roi in report.rois:
        table.add_row(
            Text(roi.name),
            roi.tg263_name or "-",
            str(roi.contours),
            "-" if roi.slices is None else str(roi.slices),
            "-" if roi.volume_cm3 is None else f"{roi.volume_cm3:.2f}",
        )
    out().print(table)


def _print_others(found: Inspection) -> None:
    kinds = Counter(other.kind for other in found.archive.others)
    listing = [f"{count} {kind}" for kind, count in sorted(kinds.items())] + found.archive.skipped_kinds
    if found.archive.results:
        listing.append(f"{len(found.archive.results)} folder(s) of results of contour-ai, not looked into")
    if listing:
        out().print(f"\nnot used: {', '.join(listing)}")


def _print_problems(found: Inspection) -> None:
    out().print()
    problems = list(dict.fromkeys(found.all_problems()))
    if not problems:
        out().print("no problems")
        return
    out().print(styled(("Problems and notes", "bold")))
    for number, problem in enumerate(problems, start=1):
        out().print(f"  {number}. {problem.what}")
        if problem.fix:
            out().print(f"     what to do: {problem.fix}")
