"""``contour-ai to-rtstruct``: masks as a structure set on their CT, verified before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out
from contour_ai.cli.shared_options import acquisition_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contour_ai.dicom.rtstruct_write import RoiContours
    from contour_ai.dicom.verify import ExpectedMask


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
@acquisition_option
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the ROIs to a copy of this structure set, whose own contours stay byte for byte.",
)
@click.option(
    "--template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names, colours, types and order of the output: Eclipse structure template (.xml), .csv or .yaml.",
)
@click.option(
    "--tg263",
    is_flag=True,
    help="Write the TG-263 names of the masks, as of TotalSegmentator's, nnU-Net's or 3D Slicer's names.",
)
@click.option(
    "--roi-map",
    "map_path",
    type=click.Path(path_type=Path),
    help="Which mask is which ROI (YAML, as for train). Without --tg263, masks that are not in it are left out.",
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
    into: Path | None,
    template: Path | None,
    tg263: bool,
    map_path: Path | None,
    overwrite: bool,
) -> None:
    """Write MASKS (.npz, NIfTI or NRRD file, or a folder of them) as an RTSTRUCT of the CT in CT_DIR.

    The file is read back and compared with the masks voxel by voxel before it is kept.
    """
    import numpy as np

    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.profile import load_profile
    from contour_ai.dicom.rtstruct_header import Provenance
    from contour_ai.dicom.rtstruct_write import contours_of_mask, cropped
    from contour_ai.mask_files import read_masks
    from contour_ai.pipeline._output import OutputOptions, write_output
    from contour_ai.structures.renaming import Renaming
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.structures.roi_record import roi_info

    limits = load_profile(profile)
    ct = read_ct(ct_dir, series_uid=series_uid, acquisition=acquisition, with_pixels=False)
    for note in ct.notes:
        _note(f"CT: {note}")
    kept: dict[str, ExpectedMask] = {}
    roi_map = None if map_path is None else RoiMap.load(map_path)
    renaming = Renaming(roi_map, standard=tg263, source=masks)
    origin: dict[str, str] = {}

    def contours() -> Iterator[RoiContours]:
        for given, mask in read_masks(masks, ct.grid, on_note=_note):
            name = renaming.name_for(given)
            if name is None:
                continue
            origin[name] = given
            box, inside = cropped(mask)
            kept[name] = box, inside
            yield contours_of_mask(
                roi_info(name),
                inside,
                box=box,
                outline=limits.outline if outline is None else outline,
                holes=limits.holes,
                algorithm=algorithm,
            )

    rois = list(contours())
    options = OutputOptions(
        into=into, template=template, profile=limits, overwrite=overwrite, inputs=(masks,)
    )
    provenance = Provenance(label=label, description=description)
    written = write_output(output, rois, kept, ct, provenance, options)
    for note in (*renaming.notes, *written.notes):
        _note(note)
    for asked, name in written.names.items():
        voxels = int(np.count_nonzero(kept[asked][1])) if asked in kept else 0
        was = "" if origin.get(asked, asked) == asked else f", was {origin[asked]}"
        out().print(f"{name}: {voxels} voxels{was}")
    out().print(f"{len(written.names)} ROIs in {written.path}, read back without a wrong voxel")


def _note(text: str) -> None:
    err().print(f"note: {text}", style="yellow")
