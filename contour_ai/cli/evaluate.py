"""`contour-ai evaluate`: how well predicted contours agree with a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from contour_ai.pipeline.evaluate import Evaluation


@click.command("evaluate")
@click.argument("predicted", type=click.Path(path_type=Path))
@click.argument("reference", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the tables.")
@click.option("--ct", type=click.Path(path_type=Path), help="The CT, where it does not lie beside them.")
@click.option("--rois", help="Only these, as in Brainstem,SpinalCord (default: all that were predicted).")
@click.option("--roi-map", type=click.Path(path_type=Path, dir_okay=False), help="Names that stand for ROIs.")
@click.option(
    "--tau",
    "tau_mm",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Tolerance of the surface DSC in mm.",
)
@click.option("--overwrite", is_flag=True, help="Replace --out where it exists.")
def command(
    predicted: Path,
    reference: Path,
    out: Path | None,
    ct: Path | None,
    rois: str | None,
    roi_map: Path | None,
    tau_mm: float,
    overwrite: bool,
) -> int:
    """Compare PREDICTED with REFERENCE: RTSTRUCT files, or folders of patients paired by UID.

    The CT that they were drawn on is looked for beside them. With --out, metrics.csv, summary.csv and evaluation.json
    are written there, with the definition of every figure.
    """
    from rich.markup import escape

    from contour_ai.cli.main import exit_status
    from contour_ai.evaluation.metrics import DEFINITIONS
    from contour_ai.evaluation.report import write_report
    from contour_ai.files import atomic_folder
    from contour_ai.pipeline.evaluate import evaluate
    from contour_ai.structures.roi_map import RoiMap

    names = [name.strip() for name in rois.split(",") if name.strip()] if rois else None
    with console.progress_bar() as on_progress:
        result = evaluate(
            predicted,
            reference,
            ct=ct,
            rois=names,
            roi_map=None if roi_map is None else RoiMap.load(roi_map),
            tau_mm=tau_mm,
            on_progress=on_progress,
        )
    for note in result.notes:
        console.err().print(f"[yellow]note[/]: {escape(note)}")
    single = len({row.patient for row in result.rows}) == 1
    console.out().print(_table_of_rois(result) if single else _table_of_patients(result))
    if not single:
        console.out().print("Lowest DSC:")
        for s in result.summary:
            lowest = ", ".join(f"{patient} {dsc:.3f}" for patient, dsc in s.worst)
            console.out().print(f"  {s.roi}: {lowest or 'no reference'}", markup=False)
    for name in ("dsc", "surface_dsc", "hd95_mm", "masd_mm"):
        console.out().print(f"[dim]{name}: {escape(DEFINITIONS[name])}[/]")
    if out is not None:
        with atomic_folder(out, overwrite=overwrite) as folder:
            write_report(folder, result.rows, result.notes)
        console.out().print(f"tables written to {out}", markup=False)
    for patient, error in result.failed.items():
        console.err().print(f"[red]{escape(patient)}[/]: {escape(str(error))}")
    return max((exit_status(error) for error in result.failed.values()), default=0)


def _table_of_rois(result: Evaluation) -> Table:
    """One patient: a line a ROI."""
    from rich.table import Table

    tau_mm = result.rows[0].metrics.tau_mm
    table = Table(title=result.rows[0].patient)
    table.add_column("ROI", no_wrap=True)
    for heading in (
        "DSC",
        f"surface DSC {tau_mm:g} mm",
        "HD95 mm",
        "HD100 mm",
        "MASD mm",
        "predicted cm³",
        "reference cm³",
        "",
    ):
        table.add_column(heading, justify="right")
    for m in (row.metrics for row in result.rows):
        figures = [f"{m.dsc:.3f}", f"{m.surface_dsc:.3f}"]
        figures += [f"{value:.1f}" for value in (m.hd95_mm, m.hd100_mm)] + [f"{m.masd_mm:.2f}"]
        figures += [f"{value:.1f}" for value in (m.predicted_cm3, m.reference_cm3)]
        table.add_row(
            m.roi, *("–" if f == "nan" else f for f in figures), "" if m.status == "both" else m.status
        )
    return table


def _table_of_patients(result: Evaluation) -> Table:
    """Several patients: a line a ROI with medians and quartiles."""
    from rich.table import Table

    table = Table()
    table.add_column("ROI", no_wrap=True)
    for heading in (
        "n",
        "no prediction",
        "no reference",
        "DSC median [quartiles]",
        "mean",
        "surface DSC",
        "HD95 mm",
        "MASD mm",
    ):
        table.add_column(heading, justify="right")
    for s in result.summary:
        dsc = s.spread["dsc"]
        table.add_row(
            s.roi,
            str(s.n),
            str(s.prediction_missing),
            str(s.reference_missing),
            f"{dsc.median:.3f} [{dsc.q1:.3f}, {dsc.q3:.3f}]",
            f"{dsc.mean:.3f}",
            f"{s.spread['surface_dsc'].median:.3f}",
            f"{s.spread['hd95_mm'].median:.1f}",
            f"{s.spread['masd_mm'].median:.2f}",
        )
    return table
