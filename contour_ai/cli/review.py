"""``contour-ai review``: a verdict on contours, whoever drew them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console
from contour_ai.cli.shared_options import (
    acquisition_option,
    out_folder_option,
    patients_argument,
    structure_set_option,
)

if TYPE_CHECKING:
    from contour_ai.errors import ContourAIError
    from contour_ai.pipeline._review import Review


@click.command("review")
@patients_argument
@out_folder_option("Where OUT/<PatientID>/review.json and review.html go.")
@click.option("--model", help="Name or folder of a model; without it the default one.")
@click.option(
    "--rtstruct",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The structure set to review (one patient), where there are several or it lies elsewhere.",
)
@structure_set_option()
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where a folder has several.")
@acquisition_option
@click.option("--overwrite", is_flag=True, help="Replace earlier reviews of the same patients.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Print every finding of a ROI, not only the most important one."
)
def command(
    patient_dirs: tuple[Path, ...],
    out_dir: Path,
    model: str | None,
    rtstruct: Path | None,
    structure_set: str,
    device: str,
    series_uid: str | None,
    acquisition: int | None,
    overwrite: bool,
    verbose: bool,
) -> int:
    """Judge the contours of the structure set in each PATIENT_DIR: `clear`, `look` or `stop`.

    The model sees the CT, not the contours. ROIs that it does not know are judged by their geometry alone, and marked
    so: gaps, parts, outside the body, wrong side, duplicates, empty. Nothing is changed. Exit status 7: the verdict on
    at least one patient is `stop`.
    """
    from dataclasses import replace

    from contour_ai.bundle import default_bundle, load_bundle
    from contour_ai.cli.main import worst_status
    from contour_ai.errors import InputError
    from contour_ai.faults import as_known
    from contour_ai.pipeline._predict import LoadingModel, load_model
    from contour_ai.pipeline._review import ReviewOptions, review

    if rtstruct is not None and len(patient_dirs) > 1:
        raise click.UsageError("--rtstruct takes the structure set of one patient; give one PATIENT_DIR.")
    bundle = default_bundle() if model is None else load_bundle(model)
    console.err().print(f"model {bundle.name} {bundle.version}, {bundle.kind}")
    if bundle.contour_model is None:
        console.print_warning("this model has no limits of its own for contours: general ones are used")
    loading = LoadingModel(bundle, lambda: load_model(bundle, device))
    options = ReviewOptions(
        rtstruct=rtstruct,
        structure_set=structure_set,
        series_uid=series_uid,
        acquisition=acquisition,
        overwrite=overwrite,
    )
    reviews: list[Review] = []
    failures: list[tuple[Path, ContourAIError]] = []
    for patient_dir in patient_dirs:
        try:
            taken = tuple(one.folder.name for one in reviews if one.folder is not None)
            found = review(patient_dir, loading, out_dir, replace(options, taken=taken))
        except Exception as error:
            if len(patient_dirs) == 1 and isinstance(error, InputError):
                raise
            failures.append((patient_dir, as_known(error, f"reviewing {patient_dir}")))
            continue
        reviews.append(found)
        _show(found, verbose=verbose)
    if len(patient_dirs) > 1:
        _finish(reviews, out_dir, len(patient_dirs))
    for patient_dir, failure in failures:
        console.err().print(console.styled(("error", "red"), f" in {patient_dir}: {failure}"))
    stopped = any(found.verdict.verdict == "stop" for found in reviews)
    return worst_status((failure for _, failure in failures), stopped=stopped)


def _show(found: Review, *, verbose: bool) -> None:
    """One patient's ROIs as a table, the worst first, and the verdict on the patient."""
    from rich.box import SIMPLE
    from rich.table import Table

    from contour_ai.quality.verdict import SEVERITY

    record = found.record
    table = Table(box=SIMPLE, title=f"{record.patient_id or 'unknown patient'}  {record.structure_set}")
    table.add_column("ROI")
    table.add_column("volume cm3", justify="right")
    table.add_column("verdict")
    table.add_column("judged by")
    table.add_column("reason")
    for name, roi in sorted(record.rois.items(), key=lambda item: -SEVERITY[item[1].verdict]):
        by = roi.known_as if roi.judged_by == "model" and roi.known_as else roi.judged_by
        reasons = console.reasons_text([flag.reason for flag in roi.findings], every=verbose)
        table.add_row(name, f"{roi.volume_cm3:.1f}", console.styled_verdict(roi.verdict), by, reasons)
    out = console.out()
    out.print(table)
    reasons = console.reasons_text([flag.reason for flag in record.findings], every=verbose)
    out.print(
        console.styled("patient: ", console.verdict_part(record.verdict), f": {reasons}" if reasons else "")
    )
    for note in record.notes:
        console.print_note(note)
    out.print(str(found.folder))


def _finish(reviews: list[Review], out_dir: Path, patients: int) -> None:
    """The page of all patients, and how many have which verdict."""
    from contour_ai.files import atomic_file
    from contour_ai.report.review import REVIEW_PAGE, write_review_page

    if reviews:
        links = ["" if r.folder is None else f"{r.folder.name}/{REVIEW_PAGE}" for r in reviews]
        records = [found.record for found in reviews]
        with atomic_file(out_dir / REVIEW_PAGE, overwrite=True, private=True) as path:
            write_review_page(path, records, links, [found.worst for found in reviews])
    verdicts = [found.verdict.verdict for found in reviews]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("stop", "look", "clear"))
    console.err().print(f"{len(reviews)} of {patients} patients reviewed: {counts}")
