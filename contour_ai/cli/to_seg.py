"""`contour-ai to-seg`: contours or masks as a DICOM Segmentation of their CT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out
from contour_ai.cli.shared_options import acquisition_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from contour_ai.dicom.ct import CTSeries
    from contour_ai.dicom.scan import PatientFiles
    from contour_ai.dicom.seg_write import WrittenSegmentation


@click.command("to-seg")
@click.argument("patient_dir", type=click.Path(exists=True, path_type=Path))
@click.argument("masks", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--rtstruct", type=click.Path(path_type=Path), help="The structure set, where there are several."
)
@click.option(
    "--out", "output", required=True, type=click.Path(path_type=Path), help="The SEG file to write."
)
@click.option("--rois", help="Only these ROIs, with commas between them.")
@click.option("--description", default="", help="ContentDescription and SeriesDescription.")
@click.option(
    "--algorithm",
    type=click.Choice(["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]),
    default="MANUAL",
    show_default=True,
    help="How the ROIs were made.",
)
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where there are several.")
@acquisition_option
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    patient_dir: Path,
    masks: Path | None,
    rtstruct: Path | None,
    output: Path,
    rois: str | None,
    description: str,
    algorithm: str,
    series_uid: str | None,
    acquisition: int | None,
    overwrite: bool,
) -> None:
    """Write the contours of PATIENT_DIR (CT and RTSTRUCT), or MASKS on its CT, as one DICOM SEG file.

    MASKS is a .npz, NIfTI or NRRD file, a folder of them, or a SEG. Segments are BINARY, on the CT's own pixels, with
    SNOMED CT codes. The file is read back and compared voxel by voxel before it is kept. Requires:
    pip install "contour-ai[seg]".
    """
    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.scan import find_patient
    from contour_ai.dicom.seg_write import SegmentationOrigin, write_masks

    files = find_patient(patient_dir, series_uid=series_uid, rtstruct=rtstruct, needs_rtstruct=masks is None)
    ct = read_ct(files.ct, acquisition=acquisition, with_pixels=False)
    for note in (*files.problems, *ct.notes):
        _note(note)
    origin = SegmentationOrigin(description=description, algorithm=algorithm)  # type: ignore[arg-type]
    inputs = [path for path in (masks, rtstruct) if path is not None]
    show_written(
        output,
        write_masks(output, _masks(files, ct, masks, rois), ct, origin, overwrite=overwrite, inputs=inputs),
    )


def show_written(output: Path, written: WrittenSegmentation) -> None:
    """Prints what a SEG file holds, and notes the ROIs that it does not."""
    for name in written.empty:
        _note(f"ROI {name} has no voxel and is not written: a segmentation has no empty segments")
    for name, count in written.voxels.items():
        was = f", was {written.renamed[name]}" if name in written.renamed else ""
        out().print(f"{name}: {count} voxels{was}")
    out().print(f"{len(written.voxels)} segments in {output}, read back without a wrong voxel")


def _masks(
    files: PatientFiles, ct: CTSeries, masks: Path | None, rois: str | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(name, mask (k, i, j)) of the ROIs asked for."""
    from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set
    from contour_ai.errors import InputError
    from contour_ai.mask_files import read_masks

    wanted = None if rois is None else [name.strip() for name in rois.split(",") if name.strip()]
    if masks is None:
        structure_set = load_structure_set(files.structure_sets[0].path)
        found = iter_masks(structure_set, ct, on_note=lambda note: _note(str(note)))
    else:
        found = read_masks(masks, ct.grid, on_note=_note)
    seen = []
    for name, mask in found:
        seen.append(name)
        if wanted is None or name in wanted:
            yield name, mask
    missing = [name for name in wanted or () if name not in seen]
    if missing:
        raise InputError("There is no such ROI.", found=", ".join(missing), expected=", ".join(seen))


def _note(text: str) -> None:
    err().print(f"note: {text}", style="yellow")
