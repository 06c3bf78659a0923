"""`contour-ai monitor`: AI contours against the approved ones, over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console
from contour_ai.cli.shared_options import out_folder_option

if TYPE_CHECKING:
    from contour_ai.monitoring.new_model import OldAgainstNew


@click.command("monitor")
@click.argument(
    "places",
    metavar="NODE_STORE | AI_DIR APPROVED_DIR",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@out_folder_option("Where the page and the CSV go.")
@click.option(
    "--baseline",
    type=click.IntRange(min=10),
    default=20,
    show_default=True,
    help="Number of first patients from which the limits of the charts come.",
)
@click.option(
    "--commissioning",
    type=click.Path(exists=True, path_type=Path),
    help="evaluation.json of a commissioning run, to take the limits from.",
)
@click.option(
    "--export-worst",
    type=click.IntRange(min=1),
    help="Also copy so many of the most edited patients to OUT/archive, to train on.",
)
@click.option(
    "--new-model",
    type=click.Path(exists=True, path_type=Path, file_okay=False),
    help="Predictions of a new model on the test patients: compared with the contours in use, on the page and in "
    "new-model.csv.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier result.")
def command(
    places: tuple[Path, ...],
    out_dir: Path,
    baseline: int,
    commissioning: Path | None,
    export_worst: int | None,
    new_model: Path | None,
    overwrite: bool,
) -> None:
    """Compare AI contours with the approved ones, and chart what was edited.

    NODE_STORE is the storage of `contour-ai serve`, to which approved structure sets came back; or give the folder of
    predictions and that of the approved structure sets with their CTs. OUT holds monitor.html, with control charts,
    alarms and tables by ROI, model, scanner, month and reviewer, and edits.csv. One patient in five, by a hash of the
    ID, is a test patient: --export-worst sets them apart, and --new-model compares on them.
    """
    from contour_ai.csv_files import write_csv
    from contour_ai.files import atomic_folder, write_text
    from contour_ai.monitoring.export import export_worst as export
    from contour_ai.monitoring.kept import kept_edits
    from contour_ai.monitoring.measure import measure_edits
    from contour_ai.monitoring.new_model import COLUMNS as NEW_MODEL_COLUMNS
    from contour_ai.monitoring.new_model import compare_models
    from contour_ai.monitoring.new_model import csv_rows as new_model_rows
    from contour_ai.monitoring.page import MonitorPage, csv_rows, page_text
    from contour_ai.monitoring.pairs import DATABASE, is_node_storage, pairs_of_folders, pairs_of_node
    from contour_ai.monitoring.records import COLUMNS
    from contour_ai.monitoring.summary import roi_charts

    if len(places) == 1 and is_node_storage(places[0]):
        pairs, notes = pairs_of_node(places[0])
    elif len(places) == 2:
        pairs, notes = pairs_of_folders(*places)
    else:
        raise click.UsageError("give the storage of a node, or two folders: AI_DIR APPROVED_DIR")
    with console.progress_bar() as on_progress:
        edits, unread = measure_edits(pairs, on_progress)
    if len(places) == 1:
        here = {edit.series_uid for edit in edits}
        kept = kept_edits(places[0] / DATABASE)
        edits += [e for series, found in kept.items() if series not in here for e in found]
        edits.sort(key=lambda e: (e.date, e.patient, e.series_uid, e.roi))
    charts = roi_charts(edits, baseline if commissioning is None else _commissioned(commissioning))
    versus = None if new_model is None else compare_models(pairs, new_model)
    notes = [*notes, *unread, *(() if versus is None else versus.notes)]
    inputs = places if new_model is None else (*places, new_model)
    with atomic_folder(out_dir, overwrite=overwrite, inputs=inputs, private=True) as temporary:
        page = MonitorPage(edits=edits, charts=charts, notes=notes, versus=versus)
        write_text(temporary / "monitor.html", page_text(page))
        write_csv(temporary / "edits.csv", COLUMNS, csv_rows(edits))
        if versus is not None:
            write_csv(temporary / "new-model.csv", NEW_MODEL_COLUMNS, new_model_rows(versus))
        if export_worst is not None:
            done = export(pairs, edits, export_worst, temporary / "archive")
            console.err().print(
                f"{done.train} patients to train on, {done.test} to test with, in {out_dir / 'archive'}",
                markup=False,
            )
    for note in notes:
        console.err().print(f"note: {note}", style="yellow", markup=False)
    for one in charts:
        for alarm in one.chart.alarms:
            console.out().print(
                f"alarm: {one.roi}, {one.figure}: {alarm.rule} at patient {alarm.index + 1} of {len(one.patients)} "
                f"({one.patients[alarm.index]})",
                markup=False,
            )
    if versus is not None:
        _show_versus(versus)
    console.out().print(
        f"{len({e.series_uid for e in edits})} patients, {len(edits)} ROIs, "
        f"{sum(e.untouched for e in edits)} approved unchanged: "
        f"{out_dir / 'monitor.html'}",
        markup=False,
    )


def _show_versus(versus: OldAgainstNew) -> None:
    """The medians of the DSC, ROI by ROI; the rest is on the page."""
    console.out().print(
        f"{versus.new} against {versus.old}, in use, on {versus.patients} test patients:", markup=False
    )
    for c in versus.comparison:
        if c.figure == "dsc":
            console.out().print(
                f"  {c.roi}: DSC {c.first_median:.3f} against {c.second_median:.3f}, better in {c.first_better} of "
                f"{c.n} patients, worse in {c.second_better} (p {c.p_holm:.3f})",
                markup=False,
            )


def _commissioned(path: Path) -> dict[tuple[str, str], Sequence[float]]:
    """{(ROI, figure): values} of a commissioning run."""
    import json

    from contour_ai.errors import InputError
    from contour_ai.monitoring.summary import FIGURES

    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            for figure in FIGURES:
                if isinstance(row.get(figure), (int, float)):
                    found.setdefault((str(row["roi"]), figure), []).append(float(row[figure]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "This is no record of a commissioning run.",
            where=path,
            found=error,
            fix="give evaluation.json in the folder that `contour-ai commission` wrote",
        ) from error
    return dict(found)
