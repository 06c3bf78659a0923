"""``contour-ai rois``: the ROI names of an archive, and a map to start from."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out, progress_bar

if TYPE_CHECKING:
    from contour_ai.dicom.census import Census, RoiCount


@click.command("rois")
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option(
    "--out", "output", type=click.Path(path_type=Path), help="Write a ROI map to edit, for train --roi-map."
)
@click.option("--no-volumes", is_flag=True, help="Only count names, without measuring: faster.")
@click.option("--overwrite", is_flag=True, help="Replace the map if it exists.")
def command(data_dir: Path, output: Path | None, no_volumes: bool, overwrite: bool) -> None:
    """List every ROI name in DATA_DIR, in how many patients it is, and the TG-263 name proposed for it.

    Left and right are never guessed: a name that does not say its side gets no proposal.
    """
    from contour_ai.dicom.census import count_rois
    from contour_ai.errors import OutputError

    if output is not None and output.exists() and not overwrite:
        raise OutputError(
            "The output exists already.", where=output, fix="give --overwrite to replace it, or another --out"
        )
    with progress_bar() as on_progress:
        census = count_rois(data_dir, volumes=not no_volumes, on_progress=on_progress)
    _print_table(census)
    for problem in census.problems:
        err().print(f"note: {problem}", style="yellow")
    if output is not None:
        _write_map(census, output, overwrite)


def _print_table(census: Census) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("ROI name", overflow="fold")
    table.add_column("patients", justify="right")
    table.add_column("TG-263 name", overflow="fold")
    table.add_column("median cm³", justify="right")
    table.add_column("min - max", justify="right")
    for roi in census.rois:
        table.add_row(Text(roi.name), str(roi.patients), roi.tg263_name or "-", *_volumes(roi))
    out().print(table)
    named = sum(roi.tg263_name is not None for roi in census.rois)
    out().print(f"\n{census.patients} patients, {len(census.rois)} names, {named} with a TG-263 name")
    if census.without_structure_set:
        out().print(f"without a structure set: {', '.join(census.without_structure_set)}")


def _volumes(roi: RoiCount) -> tuple[str, str]:
    if not roi.volumes_cm3:
        return "-", ""
    return f"{median(roi.volumes_cm3):.1f}", f"{roi.volumes_cm3[0]:.1f} - {roi.volumes_cm3[-1]:.1f}"


def _write_map(census: Census, output: Path, overwrite: bool) -> None:
    roi_map, undecided = census.proposed_map()
    comments = {
        roi.name: f"{roi.patients} of {census.patients} patients"
        + (f", median {_volumes(roi)[0]} cm3" if roi.volumes_cm3 else "")
        for roi in census.rois
    }
    roi_map.save(output, comments=comments, undecided=undecided, overwrite=overwrite)
    out().print(f"\nwrote {output}: {len(roi_map.rois)} ROIs")
    if undecided:
        err().print(
            f"{len(undecided)} names have no proposal. Training refuses them until each stands under a ROI "
            f"or under ignore: edit {output}",
            style="yellow",
        )
