"""`contour-ai commission`: a department's own acceptance run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from contour_ai.cli import console
from contour_ai.cli.shared_options import acquisition_option, out_folder_option, structure_set_option

if TYPE_CHECKING:
    from contour_ai.bundle import ModelBundle
    from contour_ai.pipeline._commission import Commissioning
    from contour_ai.report.constancy import Constancy

LIMITS_NOT_KEPT = 6
"""Exit status of a run that worked, and found what the limits do not accept."""
OF_EARLIER_RUN = ("limits_path", "tta", "structure_set", "acquisition", "keep_trained_on", "roi_map", "tau")


def _print_example(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from contour_ai.evaluation.limits import EXAMPLE

        click.echo(EXAMPLE, nl=False)
        ctx.exit()


@click.command("commission")
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option("--model", help="Name or folder of the model (with --repeat: that of the earlier run).")
@click.option(
    "--limits",
    "limits_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the department accepts, a YAML file.",
)
@click.option(
    "--repeat",
    "repeat",
    metavar="RECORD",
    type=click.Path(path_type=Path, exists=True),
    help="Constancy test: contour the patients of this earlier run (its folder) again with its limits and options, and "
    "name every contour that changed.",
)
@out_folder_option("Where the report goes.")
@click.option(
    "--signed-by",
    metavar="NAME",
    help="Who answers for it: where all limits are kept, the model counts as commissioned on this machine.",
)
@click.option(
    "--dossier",
    is_flag=True,
    help="Also draft the department's own file for the model (dossier.md, dossier.html), with gaps marked.",
)
@click.option(
    "--strata",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Groups of the patients for the dossier: the strata.csv of an earlier run, completed.",
)
@click.option(
    "--keep-trained-on",
    is_flag=True,
    help="Measure patients that the model was trained on, too; never counts as commissioned then.",
)
@structure_set_option()
@acquisition_option
@click.option("--roi-map", type=click.Path(path_type=Path, dir_okay=False), help="Names that stand for ROIs.")
@click.option("--tau", help="Tolerance of the surface DSC, as in evaluate.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--tta/--no-tta",
    default=None,
    help="Average with the left-right mirror, if it is to be used so (default: the model's setting).",
)
@click.option("--overwrite", is_flag=True, help="Replace --out where it exists.")
@click.option(
    "--example-limits",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_example,
    help="Print a file of limits to start from.",
)
def command(
    data_dir: Path,
    model: str | None,
    limits_path: Path | None,
    repeat: Path | None,
    out_dir: Path,
    signed_by: str | None,
    dossier: bool,
    strata: Path | None,
    keep_trained_on: bool,
    structure_set: str,
    acquisition: int | None,
    roi_map: Path | None,
    tau: str | None,
    device: str,
    tta: bool | None,
    overwrite: bool,
) -> int:
    """Check a model against your own patients and limits before it is used, and write a report to sign.

    Every patient in DATA_DIR with a CT and a structure set is contoured and compared with it; those that the model was
    trained on are named and left out. Limits by ROI are checked; analytic shapes show whether this installation is
    exact. OUT gets commissioning.html (to be printed and signed), commissioning.json, the tables of evaluate, one page
    per patient, and the predictions.

    Exit status 0: all limits are kept. 6: the run worked, and a limit was not kept, a patient could not be contoured,
    the self-test failed, or --repeat found contours that changed. Others as in every command.
    """
    from contour_ai.bundle import load_bundle
    from contour_ai.cli.evaluate import tolerances_of
    from contour_ai.cli.predict import warn_of_mirror
    from contour_ai.evaluation.limits import load_limits
    from contour_ai.files import check_target
    from contour_ai.pipeline._commission import CommissionOptions, commission, read_earlier_run
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.text_files import read_text_file

    _refuse_options(repeat is not None, model, limits_path)
    given = [p for p in (data_dir, limits_path, roi_map, repeat, strata, tau and Path(tau)) if p]
    check_target(out_dir, overwrite=overwrite, inputs=given)
    options = CommissionOptions(
        device=device,
        overwrite=overwrite,
        repeat=repeat,
        dossier=dossier or strata is not None,
        strata=strata,
        inputs=tuple(given),
    )
    if repeat is not None:
        earlier = read_earlier_run(repeat)
        options = earlier.settings.over(options)
        limits, limits_text, name = earlier.limits, earlier.limits_text, model or earlier.model
    else:
        assert limits_path is not None and model is not None
        limits, limits_text, name = load_limits(limits_path), read_text_file(limits_path), model
        options = replace(
            options,
            tta=tta,
            structure_set=structure_set,
            acquisition=acquisition,
            keep_trained_on=keep_trained_on,
            roi_map=None if roi_map is None else RoiMap.load(roi_map),
            tau=tolerances_of(tau),
        )
    bundle = load_bundle(name)
    warn_of_mirror(bundle, options.tta)
    with console.progress_bar() as on_progress:
        result = commission(data_dir, bundle, limits, out_dir, options, on_progress, limits_text=limits_text)
    _show(result)
    if options.dossier:
        console.out().print(
            f"the draft of the department's file: {result.folder / 'dossier.html'} (and dossier.md)"
        )
    if signed_by is not None:
        _sign(bundle, result, signed_by)
    return 0 if result.passed else LIMITS_NOT_KEPT


def _refuse_options(repeated: bool, model: str | None, limits_path: Path | None) -> None:
    """A repeated run has the options of the earlier one, and every other needs a model and limits."""
    context = click.get_current_context()
    if repeated:
        named = {
            option.name: option.opts[0] for option in context.command.params if option.name in OF_EARLIER_RUN
        }
        told = [
            opt
            for name, opt in named.items()
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if told:
            raise click.UsageError(f"--repeat takes {', '.join(told)} from the earlier run: leave it out.")
    elif model is None or limits_path is None:
        missing = [name for name, value in (("--model", model), ("--limits", limits_path)) if value is None]
        raise click.UsageError(
            f"{' and '.join(missing)} needed, or --repeat with the folder of an earlier run."
        )


def _sign(bundle: ModelBundle, result: Commissioning, signed_by: str) -> None:
    """Records that the model is commissioned, where all limits are kept."""
    from datetime import datetime, timezone

    from contour_ai.bundle.commissioned_record import CommissionedRecord, save_record

    if result.trained_on:
        number = len(result.trained_on)
        console.print_warning(
            f"not recorded as commissioned: the model has seen {number} of these patients in training"
        )
        return
    if not result.passed or not result.page.limits:
        console.print_warning("not recorded as commissioned: limits were not kept, or there are none")
        return
    record = CommissionedRecord(
        model=bundle.name,
        version=bundle.version,
        fingerprint=bundle.inference_fingerprint,
        signed_by=signed_by.strip() or "unknown",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        series=tuple(patient.series_uid for patient in result.page.patients),
        limits=tuple(f"{check.subject}: {check.rule}" for check in result.page.limits),
        report=str(result.folder.resolve()),
    )
    console.out().print(f"commissioned {record}; the record: {save_record(record)}")


def _show(result: Commissioning) -> None:
    """Every limit, what failed besides, and the verdict."""
    from rich.table import Table

    page, out = result.page, console.out()
    for note in page.notes:
        console.print_note(note)
    table = Table(title=page.title)
    for heading in ("", "limit", "found", "", "concerned"):
        table.add_column(heading)
    failed_elsewhere = [check for check in (*page.run, *page.self_test) if not check.passed]
    for check in (*page.limits, *failed_elsewhere):
        verdict = console.styled(("pass", "green") if check.passed else ("FAIL", "red"))
        cells = (check.subject, check.rule, check.found)
        table.add_row(*cells, verdict, check.detail)
    out.print(table)
    if page.constancy is not None:
        _show_constancy(page.constancy)
    passed = sum(check.passed for check in page.self_test)
    out.print(f"self-test: {passed} of {len(page.self_test)} passed")
    overall = ("PASS", "green") if result.passed else ("FAIL", "red")
    out.print(console.styled(overall, f": {page.verdict}"))
    out.print(f"open {result.folder / 'commissioning.html'} in a browser")


def _show_constancy(found: Constancy) -> None:
    """Every contour that changed since the earlier run, and what of the installation did."""
    from rich.table import Table

    out = console.out()
    out.print(f"compared with {found.earlier}")
    if found.changed:
        table = Table("patient", "ROI", "Dice then/now", "cm³ then", "cm³ now", "what")
        for one in found.changed:
            dice = "-" if one.dice is None else f"{one.dice:.4f}"
            sizes = ("-" if size is None else f"{size:.3f}" for size in (one.before_cm3, one.now_cm3))
            table.add_row(one.patient, one.roi, dice, *sizes, one.what)
        out.print(table)
    for what, before, now in found.installation:
        out.print(f"changed since: {what}: {before}, now {now}")
    out.print(f"{found.rois - len(found.changed)} of {found.rois} ROIs have the same contours")
