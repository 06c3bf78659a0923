"""`contour-ai import-openkbp`: the public head-and-neck dataset as DICOM patients."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli import console


@click.command("import-openkbp")
@click.argument("src", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--patients", help="Only these, as in pt_1,pt_2.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes to work with."
)
def command(src: Path, out_dir: Path, patients: str | None, limit: int | None, workers: int) -> int:
    """Turn OpenKBP's provided-data SRC into DICOM patients in OUT_DIR: a CT series and a structure set each.

    Every patient is read back and compared with the CSV files, voxel by voxel, before it is kept. Patients that are in
    OUT_DIR already are skipped, so an interrupted import goes on where it stopped.
    """

    from contour_ai.cli.main import worst_status
    from contour_ai.sample.openkbp import import_openkbp

    names = [name.strip() for name in patients.split(",") if name.strip()] if patients else None
    with console.progress_bar() as on_progress:
        report = import_openkbp(
            src, out_dir, patients=names, limit=limit, workers=workers, on_progress=on_progress
        )
    console.out().print(
        f"{len(report.imported)} patients imported into {out_dir}, each read back with 0 wrong voxels; "
        f"{len(report.skipped)} were there already; {len(report.failed)} failed"
    )
    for name, error in report.failed.items():
        console.err().print(console.styled((name, "red"), f": {error}"))
    return worst_status(report.failed.values())
