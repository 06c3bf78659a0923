"""``contour-ai check``: what an importer would stumble over in a structure set."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli.console import err, out

STYLES = {"error": "red", "warning": "yellow"}


@click.command("check")
@click.argument("rtstruct", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--ct", "ct_dir", type=click.Path(exists=True, path_type=Path), help="The CT it was drawn on.")
@click.option(
    "--profile",
    default="generic",
    help="What the importer accepts: generic, eclipse, research, tg263, or a .yaml file.",
)
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where there are several.")
@click.option(
    "--acquisition",
    type=int,
    metavar="N",
    help="The acquisition to take where several overlap in one CT series; the refusal lists them.",
)
def command(
    rtstruct: Path, ct_dir: Path | None, profile: str, series_uid: str | None, acquisition: int | None
) -> None:
    """List what a planning system may refuse or misread in RTSTRUCT, a file of any tool.

    Each line names the attribute, and ROI, contour, slice and number where it concerns one; slices count from 0 along
    the slice normal, as in mask arrays. With --ct also the references to the images and the planes of the contours are
    checked. Errors give exit status 3.
    """
    from contour_ai.dicom.check import check_structure_set
    from contour_ai.dicom.ct import read_ct
    from contour_ai.errors import InputError

    ct = None
    if ct_dir is not None:
        ct = read_ct(ct_dir, series_uid=series_uid, acquisition=acquisition, with_pixels=False)
    findings = check_structure_set(rtstruct, ct, profile=profile)
    for finding in findings:
        out().print(str(finding), style=STYLES[finding.severity])
    if ct is None:
        err().print("note: without --ct, references to images and slices were not checked")
    errors = sum(f.severity == "error" for f in findings)
    summary = f"{errors} errors, {len(findings) - errors} warnings in {rtstruct}"
    if errors:
        raise InputError("An importer would stumble over this structure set.", found=summary)
    out().print(summary)
