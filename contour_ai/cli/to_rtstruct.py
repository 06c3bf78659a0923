"""``contour-ai to-rtstruct``: masks as a structure set on their CT, verified before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contour_ai.dicom.rtstruct_write import RoiContours


@click.command("to-rtstruct")
@click.argument("ct_dir", type=click.Path(exists=True, path_type=Path))
@click.argument("masks", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", "output", required=True, type=click.Path(path_type=Path), help="The RTSTRUCT file to write."
)
@click.option(
    "--profile",
    default="generic",
    help="What the importer accepts: generic, eclipse, research, tg263, or a .yaml file.",
)
@click.option(
    "--outline", type=float, help="Distance of outlines from voxel centres, in voxels.  [default: 0.5]"
)
@click.option("--label", default="contour-ai", help="Structure set label.", show_default=True)
@click.option("--description", default="", help="Structure set description.")
@click.option(
    "--algorithm",
    type=click.Choice(["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]),
    default="AUTOMATIC",
    show_default=True,
    help="How the masks were made.",
)
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where there are several.")
@click.option(
    "--acquisition",
    type=int,
    metavar="N",
    help="The acquisition to take where several overlap in one CT series; the refusal lists them.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    ct_dir: Path,
    masks: Path,
    output: Path,
    profile: str,
    outline: float | None,
    label: str,
    description: str,
    algorithm: str,
    series_uid: str | None,
    acquisition: int | None,
    overwrite: bool,
) -> None:
    """Write MASKS (.npz, NIfTI or NRRD file, or a folder of them) as an RTSTRUCT of the CT in CT_DIR.

    The file is read back and compared with the masks voxel by voxel before it is kept.
    """
    import numpy as np

    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.profile import load_profile
    from contour_ai.dicom.rtstruct_header import Provenance
    from contour_ai.dicom.rtstruct_write import contours_of_mask, cropped, write_structure_set
    from contour_ai.mask_files import read_masks
    from contour_ai.structures.roi_record import roi_info

    limits = load_profile(profile)
    ct = read_ct(ct_dir, series_uid=series_uid, acquisition=acquisition, with_pixels=False)
    for note in ct.notes:
        _note(f"CT: {note}")
    kept = {}

    def contours() -> Iterator[RoiContours]:
        for name, mask in read_masks(masks, ct.grid, on_note=_note):
            kept[name] = cropped(mask)
            yield contours_of_mask(
                roi_info(name),
                kept[name][1],
                box=kept[name][0],
                outline=limits.outline if outline is None else outline,
                holes=limits.holes,
                algorithm=algorithm,
            )

    written = write_structure_set(
        output,
        contours(),
        ct,
        Provenance(label=label, description=description),
        profile=limits,
        overwrite=overwrite,
        inputs=[masks],
        verify=kept.__getitem__,
    )
    for note in written.notes:
        _note(note)
    for asked, name in written.names.items():
        out().print(f"{name}: {int(np.count_nonzero(kept[asked][1]))} voxels")
    out().print(f"{len(written.names)} ROIs in {written.path}, read back without a wrong voxel")


def _note(text: str) -> None:
    err().print(f"note: {text}", style="yellow")
