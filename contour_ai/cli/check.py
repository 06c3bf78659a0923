"""``contour-ai check``: what systems refuse, what breaks the standard, and what is read differently."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli.console import err, out
from contour_ai.cli.shared_options import acquisition_option

STYLES = {"refused": "red", "standard": "yellow", "differs": None}


@click.command("check")
@click.argument("rtstruct", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--ct", "ct_dir", type=click.Path(exists=True, path_type=Path), help="The CT it was drawn on.")
@click.option(
    "--profile",
    default="generic",
    help="What the importer accepts: generic, eclipse, research, tg263, or a .yaml file.",
)
@click.option(
    "--series",
    "series_uid",
    help="SeriesInstanceUID of the CT, where there are several and RTSTRUCT refers to none or more of them.",
)
@acquisition_option
@click.option("--strict", is_flag=True, help="Exit status 3 also for what breaks the standard.")
def command(
    rtstruct: Path,
    ct_dir: Path | None,
    profile: str,
    series_uid: str | None,
    acquisition: int | None,
    strict: bool,
) -> None:
    """List what a planning system may refuse or misread in RTSTRUCT, a file of any tool.

    Three levels: "known to be refused", by whom and how that is known; "breaks the standard", with the attribute and
    what PS3.3 asks; "read differently by different systems". Each line names the ROI, contour, slice and number that
    it concerns. With --ct also the references to the images and the planes of the contours are checked, and
    overlapping contours, holes and copies. Exit status 3 for what is known to be refused; with --strict also for the
    second level.
    """
    from contour_ai.dicom.check import check_structure_set
    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.scan import ct_to_check_against
    from contour_ai.errors import InputError

    ct = None
    if ct_dir is not None:
        files = ct_to_check_against(ct_dir, rtstruct, series_uid=series_uid)
        ct = read_ct(files, acquisition=acquisition, with_pixels=False)
    findings = check_structure_set(rtstruct, ct, profile=profile)
    for finding in findings:
        out().print(str(finding), style=STYLES[finding.level])
    if ct is None:
        err().print("note: without --ct, references to images and slices were not checked")
    refused, broken, differing = (sum(f.level == level for f in findings) for level in STYLES)
    summary = (
        f"{refused} known to be refused, {broken} against the standard, "
        f"{differing} read differently by different systems, in {rtstruct}"
    )
    if refused:
        raise InputError("This structure set is known to be refused.", found=summary)
    if strict and broken:
        raise InputError("This structure set breaks the standard.", found=summary)
    out().print(summary)
