"""`contour-ai evaluate`: how well predicted contours agree with a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console
from contour_ai.cli.shared_options import acquisition_option, structure_set_option

if TYPE_CHECKING:
    from rich.table import Table

    from contour_ai.evaluation.comparison import FigureComparison
    from contour_ai.evaluation.tolerances import Tolerances
    from contour_ai.pipeline._evaluate import Evaluation

PRINTED = ("dsc", "surface_dsc", "tau_mm", "hd95_mm", "hd100_mm", "masd_mm", "added_path_mm", "status")
"""Figures whose definition is printed; all others are in the files."""


@click.command("evaluate")
@click.argument("predicted", type=click.Path(path_type=Path))
@click.argument("reference", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for tables and reports."
)
@click.option(
    "--versus", type=click.Path(path_type=Path), help="Another prediction (or observer) to compare with."
)
@click.option("--report", is_flag=True, help="Also write HTML pages into --out: one per patient, one of all.")
@click.option("--ct", type=click.Path(path_type=Path), help="The CT, where it does not lie beside them.")
@click.option("--rois", help="Only these, as in Brainstem,SpinalCord (default: all that were predicted).")
@click.option("--roi-map", type=click.Path(path_type=Path, dir_okay=False), help="Names that stand for ROIs.")
@click.option(
    "--tau",
    help="Tolerance of the surface DSC: mm for all ROIs, or a YAML file (default: by ROI, else 2 mm).",
)
@structure_set_option()
@acquisition_option
@click.option("--overwrite", is_flag=True, help="Replace --out where it exists.")
def command(
    predicted: Path,
    reference: Path,
    out: Path | None,
    versus: Path | None,
    report: bool,
    ct: Path | None,
    rois: str | None,
    roi_map: Path | None,
    tau: str | None,
    structure_set: str,
    acquisition: int | None,
    overwrite: bool,
) -> int:
    """Compare PREDICTED with REFERENCE: RTSTRUCT files, or folders of patients paired by UID.

    The CT that they were drawn on is looked for beside them. With --out, metrics.csv, summary.csv and evaluation.json
    are written there, with the definition of every figure; with --versus also comparison.csv (paired differences,
    Wilcoxon test); with --report also patients/*.html and, of several patients, cohort.html.
    """
    from contour_ai.cli.main import worst_status
    from contour_ai.files import check_target
    from contour_ai.pipeline._evaluate import evaluate, evaluate_versus
    from contour_ai.structures.roi_map import RoiMap

    if report and out is None:
        raise click.UsageError("--report needs --out DIR: that is where the pages are written.")
    given = (predicted, reference, ct, versus, roi_map, None if tau is None else Path(tau))
    inputs = [path for path in given if path is not None]
    if out is not None:
        check_target(out, overwrite=overwrite, inputs=inputs)
    names = [name.strip() for name in rois.split(",") if name.strip()] if rois else None
    mapped = None if roi_map is None else RoiMap.load(roi_map)
    tolerances = tolerances_of(tau)
    second: Evaluation | None = None
    comparison: Sequence[FigureComparison] = ()
    with console.progress_bar() as on_progress:
        if versus is None:
            result = evaluate(
                predicted,
                reference,
                ct=ct,
                rois=names,
                roi_map=mapped,
                tau=tolerances,
                structure_set=structure_set,
                acquisition=acquisition,
                on_progress=on_progress,
            )
        else:
            both = evaluate_versus(
                predicted,
                versus,
                reference,
                ct=ct,
                rois=names,
                roi_map=mapped,
                tau=tolerances,
                structure_set=structure_set,
                acquisition=acquisition,
                on_progress=on_progress,
            )
            result, second, comparison = both.first, both.second, both.comparison
    _show(result, second, comparison)
    if out is not None:
        labels = _labels(predicted, versus)
        _write(out, result, second, comparison, labels, report=report, overwrite=overwrite, inputs=inputs)
    failures = [error for r in (result, second) if r is not None for error in r.failed.values()]
    return worst_status(failures)


def tolerances_of(tau: str | None) -> Tolerances | float | None:
    """What --tau says: a number of mm, or a YAML file of tolerances by ROI."""
    from contour_ai.evaluation.tolerances import load_tolerances

    if tau is None:
        return None
    try:
        tau_mm = float(tau)
    except ValueError:
        return load_tolerances(Path(tau))
    if not 0 <= tau_mm < float("inf"):
        raise click.BadParameter(
            f"{tau} is no tolerance: give a number of mm, 0 or more.", param_hint="--tau"
        )
    return tau_mm


def _labels(predicted: Path, versus: Path | None) -> tuple[str, ...]:
    """What the two sides are called: their own names, or the shortest ends of their paths that differ."""
    if versus is None:
        return ("prediction",)
    mine, theirs = predicted.resolve().parts, versus.resolve().parts
    length = next((n for n in range(1, len(mine)) if mine[-n:] != theirs[-n:]), 1)
    return "/".join(mine[-length:]), "/".join(theirs[-length:])


def _write(
    out: Path,
    result: Evaluation,
    second: Evaluation | None,
    comparison: Sequence[FigureComparison],
    labels: tuple[str, ...],
    *,
    report: bool,
    overwrite: bool,
    inputs: Sequence[Path],
) -> None:
    from contour_ai.evaluation.report import write_report
    from contour_ai.files import atomic_folder
    from contour_ai.pipeline.report import COHORT, reports_of_evaluation

    pages: tuple[Path, ...] = ()
    with atomic_folder(out, overwrite=overwrite, inputs=inputs, private=True) as folder:
        write_report(folder, result.rows, result.notes, comparison, result.tolerances)
        if second is not None:
            (folder / "versus").mkdir()
            write_report(folder / "versus", second.rows, second.notes, (), second.tolerances)
        if report:
            with console.progress_bar() as on_progress:
                pages = reports_of_evaluation(
                    folder,
                    result,
                    title=f"Evaluation of {labels[0]}",
                    versus=second,
                    comparison=comparison,
                    labels=labels,
                    on_progress=on_progress,
                )
    console.out().print(f"tables written to {out}")
    if pages:
        first = COHORT if len(pages) > 1 else pages[0].relative_to(pages[0].parents[1])
        console.out().print(f"open {out / first} in a browser")


def _show(result: Evaluation, second: Evaluation | None, comparison: Sequence[FigureComparison]) -> None:
    """Notes and failures to stderr; tables, worst patients and definitions to stdout."""

    from contour_ai.evaluation.comparison import COMPARISON
    from contour_ai.evaluation.metrics import DEFINITIONS

    for note in dict.fromkeys([*result.notes, *(second.notes if second else ())]):
        console.print_note(note)
    out = console.out()
    for r, title in ((result, "PREDICTED" if second else ""), (second, "VERSUS")):
        if r is None or not r.rows:
            continue
        single = len({row.patient for row in r.rows}) == 1
        out.print(table_of_rois(r) if single else table_of_patients(r, title))
        if not single:
            out.print("Lowest DSC:")
            for s in r.summary:
                lowest = ", ".join(f"{patient} {dsc:.3f}" for patient, dsc in s.worst)
                out.print(f"  {s.roi}: {lowest or 'no reference'}")
    if comparison:
        out.print(_table_of_comparison(comparison))
        out.print(console.styled((COMPARISON, "dim")))
    for name in PRINTED:
        out.print(console.styled((f"{name}: {DEFINITIONS[name]}", "dim")))
    for sentence in result.tolerances:
        out.print(console.styled((f"tolerance of {sentence}", "dim")))
    for r in (result, second):
        for patient, error in r.failed.items() if r else ():
            console.err().print(console.styled((patient, "red"), f": {error}"))


def table_of_rois(result: Evaluation) -> Table:
    """One patient: a line a ROI."""
    from rich.table import Table

    table = Table(title=result.rows[0].patient)
    table.add_column("ROI", no_wrap=True)
    for heading in (
        "DSC",
        "surface DSC (τ mm)",
        "HD95 mm",
        "HD100 mm",
        "MASD mm",
        "added path mm",
        "predicted cm³",
        "reference cm³",
        "",
    ):
        table.add_column(heading, justify="right")
    for m in (row.metrics for row in result.rows):
        figures = [f"{m.dsc:.3f}", f"{m.surface_dsc:.3f} ({m.tau_mm:g})"]
        figures += [f"{value:.1f}" for value in (m.hd95_mm, m.hd100_mm)]
        figures += [f"{m.masd_mm:.2f}", f"{m.added_path_mm:.0f}"]
        figures += [f"{value:.1f}" for value in (m.predicted_cm3, m.reference_cm3)]
        table.add_row(
            m.roi,
            *("–" if f.startswith("nan") else f for f in figures),
            "" if m.status == "both" else m.status,
        )
    return table


def table_of_patients(result: Evaluation, title: str = "") -> Table:
    """Several patients: a line a ROI with medians and quartiles."""
    from rich.table import Table

    table = Table(title=title or None)
    table.add_column("ROI", no_wrap=True)
    for heading in (
        "n",
        "no prediction",
        "no reference",
        "DSC median [quartiles]",
        "mean [95 % interval]",
        "surface DSC",
        "HD95 mm",
        "MASD mm",
    ):
        table.add_column(heading, justify="right")
    for s in result.summary:
        dsc = s.spread["dsc"]
        interval = "" if math.isnan(dsc.mean_low) else f" [{dsc.mean_low:.3f}, {dsc.mean_high:.3f}]"
        table.add_row(
            s.roi,
            str(s.n),
            str(s.prediction_missing),
            str(s.reference_missing),
            f"{dsc.median:.3f} [{dsc.q1:.3f}, {dsc.q3:.3f}]",
            f"{dsc.mean:.3f}{interval}",
            f"{s.spread['surface_dsc'].median:.3f}",
            f"{s.spread['hd95_mm'].median:.1f}",
            f"{s.spread['masd_mm'].median:.2f}",
        )
    return table


def _table_of_comparison(comparison: Sequence[FigureComparison]) -> Table:
    """A line a ROI and figure."""
    from rich.table import Table

    table = Table(title="PREDICTED minus VERSUS")
    table.add_column("ROI", no_wrap=True)
    table.add_column("figure", no_wrap=True)
    for heading in (
        "n",
        "PREDICTED",
        "VERSUS",
        "median difference",
        "better",
        "worse",
        "equal",
        "p",
        "p (Holm)",
    ):
        table.add_column(heading, justify="right")
    for c in comparison:
        medians = [f"{value:.3f}" for value in (c.first_median, c.second_median, c.median_difference)]
        counts = [str(n) for n in (c.first_better, c.second_better, c.equal)]
        table.add_row(c.roi, c.figure, str(c.n), *medians, *counts, f"{c.p:.4f}", f"{c.p_holm:.4f}")
    return table
