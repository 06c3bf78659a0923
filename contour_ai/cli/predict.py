"""`contour-ai predict`: contours patients; the next is read while the last is written."""

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
    from contour_ai.bundle import ModelBundle
    from contour_ai.errors import ContourAIError
    from contour_ai.pipeline._predict import PredictOptions
    from contour_ai.pipeline.result import Prediction
    from contour_ai.training.distributed import Place


@click.command("predict")
@patients_argument
@out_folder_option("Where results go.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Name or folder of a model; without it the default one. Given several times, they are averaged.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--rois", help="Only these ROIs of the model, as in A,B.")
@click.option(
    "--tta/--no-tta",
    default=None,
    help="Average with the left-right mirror: slower, a little better (default: the model's setting).",
)
@click.option(
    "--profile",
    default="generic",
    show_default=True,
    help="What the importer accepts: generic, eclipse, research, tg263, or a .yaml file.",
)
@click.option("--no-overlays", is_flag=True, help="Draw the montage only, no picture for every slice.")
@click.option(
    "--report", is_flag=True, help="Also write report.html: CT and contours to look through in a browser."
)
@click.option(
    "--seg",
    is_flag=False,
    flag_value="binary",
    type=click.Choice(["binary", "fractional"]),
    help="Also write a DICOM SEG: masks, or with `--seg fractional` the network's probabilities. "
    'Requires: pip install "contour-ai[seg]".',
)
@click.option(
    "--surfaces",
    type=click.Choice(["stl", "ply"]),
    help="Also write the surface of every ROI into surfaces/, in mm (LPS).",
)
@click.option(
    "--derive",
    metavar="RECIPE",
    help="Also derive structures by a recipe: a YAML file, or headneck, thorax, pelvis, breast.",
)
@click.option(
    "--template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names, colours, types and order of the output: Eclipse structure template (.xml), .csv or .yaml.",
)
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the contours to a copy of this structure set (one patient), whose own contours stay byte for byte.",
)
@click.option(
    "--keep-stopped",
    is_flag=True,
    help="Write contours whose verdict is `stop` (grossly wrong), too; the exit status stays 7 for such a patient.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Print every finding of a ROI, not only the most important one."
)
@click.option("--overwrite", is_flag=True, help="Replace earlier predictions of the same patients.")
@click.option(
    "--skip-done",
    is_flag=True,
    help="Skip patients already predicted with this model, these options and unchanged images. With --overwrite, "
    "replace all others.",
)
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where a folder has several.")
@acquisition_option
@click.option(
    "--allow-poor", is_flag=True, help="Also draw ROIs whose Dice was below 0.5 when the model was validated."
)
@structure_set_option()
def command(
    patient_dirs: tuple[Path, ...],
    out_dir: Path,
    models: tuple[str, ...],
    device: str,
    rois: str | None,
    tta: bool | None,
    profile: str,
    no_overlays: bool,
    report: bool,
    seg: str | None,
    surfaces: str | None,
    derive: str | None,
    template: Path | None,
    into: Path | None,
    keep_stopped: bool,
    verbose: bool,
    overwrite: bool,
    skip_done: bool,
    series_uid: str | None,
    acquisition: int | None,
    allow_poor: bool,
    structure_set: str,
) -> int:
    """Contour the CT in each PATIENT_DIR and write the structure set, pictures and a summary.

    Every ROI and every patient gets a verdict: `clear` (nothing found), `look`, or `stop` (grossly wrong). A ROI
    that is `stop` is not written; a patient that is `stop` gets no structure set, and exit status 7.

    Results go to OUT/<PatientID>/. A structure set that does not read back exactly as it was meant is not kept. Where
    the patient has an RTSTRUCT with the same ROIs, the pictures show both and the Dice is given.

    Several GPUs or machines: `torchrun --nproc-per-node=4 -m contour_ai predict COHORT/* --out OUT`, or Slurm's
    `srun`, share the patients; those already predicted are skipped.

    Not a medical device; for research and local commissioning. Every contour needs review by a qualified person.
    """
    from contour_ai.bundle import default_bundle, load_bundle
    from contour_ai.pipeline._predict import PredictOptions
    from contour_ai.training.distributed import place

    if into is not None and len(patient_dirs) > 1:
        raise click.UsageError("--into takes the structure set of one patient; give one PATIENT_DIR.")
    here = place()
    bundles = [load_bundle(model) for model in models] or [default_bundle()]
    names = None if rois is None else tuple(name.strip() for name in rois.split(",") if name.strip())
    options = PredictOptions(
        device=here.device(device),
        rois=names,
        tta=tta,
        profile=profile,
        overlays=not no_overlays,
        report=report,
        seg=seg,  # type: ignore[arg-type]
        surfaces=surfaces,  # type: ignore[arg-type]
        derive=derive,
        template=template,
        into=into,
        keep_stopped=keep_stopped,
        overwrite=overwrite,
        series_uid=series_uid,
        structure_set=structure_set,
        allow_poor=allow_poor,
        acquisition=acquisition,
    )
    for bundle in bundles:
        _say_which(bundle, chosen=bool(models))
        warn_of_mirror(bundle, tta)
    skip_done = skip_done or (here.size > 1 and not overwrite)
    try:
        return _predict_all(patient_dirs, bundles, out_dir, options, here, skip_done, verbose)
    except KeyboardInterrupt:
        if len(patient_dirs) == 1 or skip_done or overwrite:
            raise
        raise KeyboardInterrupt(
            "patients that are contoured stay, of the others nothing was left. Run the same command again with "
            "--skip-done to continue."
        ) from None


def warn_of_mirror(bundle: ModelBundle, tta: bool | None) -> None:
    """Warns where the mirror image is averaged with a model that was trained without mirroring."""
    if bundle.uses_mirror_tta(tta) and not bundle.trained_with_mirroring:
        console.print_warning(
            "this model was trained without mirrored patients: --tta makes its contours worse"
        )


def _say_which(bundle: ModelBundle, *, chosen: bool) -> None:
    from contour_ai.bundle.poor_models import weaknesses

    default = "" if chosen else " (the default)"
    console.err().print(f"model {bundle.name} {bundle.version}{default}, {bundle.kind}")
    if bundle.ranges is None:
        console.print_warning(
            "this model has no reference ranges: volume, density and position are not checked"
        )
    if bundle.data.saw_no_patient and bundle.kind != "phantom":
        console.print_warning("this model never saw a patient; its contours are not for treatment")
    if drawings := bundle.data.rois_of_drawings:
        console.print_warning(f"learnt from drawings alone, not for treatment: {', '.join(drawings)}")
    if bundle.kind == "phantom":
        console.print_warning("a phantom model: it knows drawn phantoms only, never use it on a patient")
    for sentence in weaknesses(bundle):
        console.print_warning(sentence)


def _predict_all(
    cohort: tuple[Path, ...],
    bundles: list[ModelBundle],
    out_dir: Path,
    options: PredictOptions,
    here: Place,
    skip_done: bool,
    verbose: bool,
) -> int:
    """Tries every patient of this process; prints what was found, then what failed. Returns the worst exit status."""
    from contour_ai.cli.main import worst_status
    from contour_ai.errors import OutputError
    from contour_ai.pipeline._predict import predict_patients
    from contour_ai.pipeline.cohort import share
    from contour_ai.pipeline.ensemble import as_one, begin_ensemble
    from contour_ai.progress import no_progress
    from contour_ai.training.distributed import Place

    failures: list[tuple[Path, ContourAIError]] = []
    mine = share(cohort, out_dir, as_one(bundles), options, here, skip_done=skip_done)
    patient_dirs = mine.patient_dirs
    if mine.done:
        earlier = f", of whom {mine.stopped} stopped" if mine.stopped else ""
        console.err().print(f"{len(mine.done)} patients skipped, already predicted{earlier}")
    stopped = mine.stopped
    if not patient_dirs:
        if len(cohort) > 1:
            _write_table(out_dir, [])
        return worst_status((), stopped=bool(stopped))
    model = begin_ensemble(bundles, options.device)
    bar = console.ClosableBar()
    with bar:
        # The bars of several processes would write over each other.
        on_progress = bar.on_progress if here.size == 1 else no_progress
        for outcome in predict_patients(patient_dirs, model, out_dir, options, on_progress):
            with bar.closed():
                if outcome.prediction is not None:
                    _show(outcome.prediction, verbose=verbose)
                    stopped += outcome.prediction.verdict == "stop"
                if outcome.error is not None:
                    failures.append((outcome.patient_dir, outcome.error))
    refused = [path for path, error in failures if isinstance(error, OutputError)] if skip_done else []
    if refused:  # another run may have done them while this one worked
        meanwhile = share(refused, out_dir, as_one(bundles), options, Place(), skip_done=True)
        failures = [(path, error) for path, error in failures if path not in meanwhile.done]
        patient_dirs = tuple(path for path in patient_dirs if path not in meanwhile.done)
        stopped += meanwhile.stopped
        if meanwhile.done:
            console.err().print(f"{len(meanwhile.done)} patients were done by another run in the meantime")
    if len(cohort) > 1:
        _write_table(out_dir, failures)
    for patient_dir, failure in failures:
        console.err().print(console.styled(("error", "red"), f" in {patient_dir}: {failure}"))
    if len(cohort) > 1:
        what = "patients contoured" + (f", {stopped} stopped" if stopped else "")
        console.err().print(f"{len(patient_dirs) - len(failures)} of {len(patient_dirs)} {what}")
    return worst_status((failure for _, failure in failures), stopped=bool(stopped))


def _write_table(out_dir: Path, failures: list[tuple[Path, ContourAIError]]) -> None:
    """The page and table of all patients in the folder; where they cannot be written, the patients stay."""
    from contour_ai.errors import OutputError
    from contour_ai.pipeline.predicted_cohort import write_patients

    if not out_dir.is_dir():
        return
    try:
        page, table = write_patients(out_dir, [(path.name, str(error)) for path, error in failures])
    except OutputError as error:
        console.print_warning(f"no table of all patients: {error}")
        return
    console.out().print(f"all patients: {page}, {table.name}")


def _show(prediction: Prediction, *, verbose: bool = False) -> None:
    """One patient's ROIs as a table, the verdict on the patient, and where the files are."""
    from rich.box import SIMPLE
    from rich.table import Table

    scored = any(roi.dice is not None for roi in prediction.rois)
    table = Table(box=SIMPLE, title=f"{prediction.patient_id or 'unknown patient'}  ({prediction.model})")
    table.add_column("ROI")
    for column in ("volume cm3", "slices", *(["Dice"] if scored else [])):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    table.add_column("reason")
    for roi in prediction.rois:
        slices = "-" if roi.slice_numbers is None else f"{roi.slice_numbers[0]}-{roi.slice_numbers[1]}"
        dice = ["-" if roi.dice is None else f"{roi.dice:.3f}"] if scored else []
        reasons = console.reasons_text([flag.reason for flag in roi.findings], every=verbose)
        table.add_row(
            roi.name,
            f"{roi.volume_cm3:.1f}",
            slices,
            *dice,
            console.styled_verdict(roi.verdict or "-"),
            reasons,
        )
    out = console.out()
    out.print(table)
    if prediction.verdict is not None:
        reasons = console.reasons_text([flag.reason for flag in prediction.findings], every=verbose)
        suffix = f": {reasons}" if reasons else ""
        out.print(console.styled("patient: ", console.verdict_part(prediction.verdict), suffix))
    if prediction.path is None:
        out.print("no structure set was written; --keep-stopped writes it all the same")
    if prediction.mean_dice is not None:
        out.print(f"mean Dice of the organs {prediction.mean_dice:.3f}")
    for note in prediction.notes:
        console.print_note(note)
    out.print(f"{prediction.folder}  ({prediction.timings_s['total']:.1f} s)")
