"""`contour-ai anonymise`: copies of CT, RTSTRUCT and SEG without the patient's identity."""

from __future__ import annotations

from pathlib import Path

import click

from contour_ai.cli import console
from contour_ai.cli.shared_options import out_folder_option, patients_argument, structure_set_option


@click.command("anonymise")
@patients_argument
@out_folder_option("Where the copies go, one folder per patient.")
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with pseudonyms and secret; read where it exists (default: OUT-key.json beside OUT).",
)
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(["dates", "patient", "device", "descriptions"]),
    help="Keep more than the Basic Profile: true dates; sex, age, size, weight; the scanner's names; cleaned "
    "descriptions. May be given several times.",
)
@structure_set_option(default=None, without="Without it all are copied.")
@click.option("--prefix", default="ANON", show_default=True, help="How pseudonyms begin.")
@click.option("--overwrite", is_flag=True, help="Replace earlier copies of the same patients.")
def command(
    patient_dirs: tuple[Path, ...],
    out_dir: Path,
    key_path: Path | None,
    keep: tuple[str, ...],
    structure_set: str | None,
    prefix: str,
    overwrite: bool,
) -> int:
    """Copy CT, RTSTRUCT and SEG of patients to OUT/<pseudonym>/ without their identity.

    After the Basic Profile of DICOM PS3.15: new UIDs that still belong together, dates moved back by the same number of
    days in all files of a patient, no private elements, no free text; what is the patient's is taken out of ROI names.
    Images with burned-in annotation are refused. Every copy is compared with its original, voxel by voxel, and searched
    for the original's identity before it is kept. Other kinds of files are not copied, and named.

    The key file says which pseudonym is whom: keep it apart from the copies. With the same key, a patient gets the same
    pseudonym again. Requires: pip install "contour-ai[anonymise]".
    """

    from contour_ai.anonymisation.options import Keep
    from contour_ai.cli.extras import needs_extra
    from contour_ai.cli.main import worst_status

    with needs_extra("anonymise", "dicognito"):
        from contour_ai.anonymisation.patients import AnonymiseOptions, anonymise_patients

    options = AnonymiseOptions(
        key_path=key_path or out_dir.with_name(f"{out_dir.resolve().name}-key.json"),
        keep=frozenset(Keep(name) for name in keep),
        prefix=prefix,
        structure_set=structure_set,
        overwrite=overwrite,
    )
    with console.progress_bar() as on_progress:
        done = anonymise_patients(list(patient_dirs), out_dir, options, on_progress)
    for copy in done.copies:
        console.out().print(
            f"{copy.folder}: {copy.ct_files} CT, {copy.structure_sets} RTSTRUCT, "
            f"{copy.segmentations} SEG files; {copy.rois_compared} ROIs equal to the original's"
        )
        for note in copy.notes:
            console.print_note(note)
    for sentence in done.not_copied:
        console.print_note(sentence)
    for name, error in done.failed.items():
        console.err().print(console.styled(("error", "red"), f" in patient {name}: {error}"))
    if done.failed:
        console.err().print(
            f"{len(done.failed)} of {len(done.failed) + len(done.copies)} patients not copied"
        )
    console.err().print(f"key: {options.key_path} (keep it apart from the copies)")
    return worst_status(done.failed.values())
