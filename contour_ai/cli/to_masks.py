"""``contour-ai to-masks``: a structure set as masks on its CT's voxels, or as surfaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out
from contour_ai.cli.shared_options import acquisition_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy import bool_
    from numpy.typing import NDArray

    from contour_ai.dicom.ct import CTSeries
    from contour_ai.dicom.structure_set import StructureSet
    from contour_ai.structures import RoiInfo


@click.command("to-masks")
@click.argument("patient_dir", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--rtstruct", type=click.Path(path_type=Path), help="The structure set, where there are several."
)
@click.option(
    "--out", "output", required=True, type=click.Path(path_type=Path), help="FILE.npz, or a folder to make."
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["npz", "nifti", "nrrd", "seg", "stl", "ply"]),
    help="Default: npz for a FILE.npz, seg for a FILE.dcm, else nifti. stl and ply: a surface per ROI, in mm (LPS).",
)
@click.option("--rois", help="Only these ROIs, with commas between them.")
@click.option(
    "--roi-map", type=click.Path(path_type=Path), help="Names to write instead (see contour-ai rois)."
)
@click.option("--series", "series_uid", help="SeriesInstanceUID of the CT, where there are several.")
@acquisition_option
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    patient_dir: Path,
    rtstruct: Path | None,
    output: Path,
    file_format: str | None,
    rois: str | None,
    roi_map: Path | None,
    series_uid: str | None,
    acquisition: int | None,
    overwrite: bool,
) -> None:
    """Write the contours of PATIENT_DIR (CT and RTSTRUCT) as masks on the CT's own voxels, or as surfaces.

    Arrays are (slice, row, column), slices ascending along the slice normal. A voxel is inside where its centre is. A
    surface (stl, ply) encloses the volume of its ROI's voxels within 1 %, in DICOM patient coordinates and mm.
    """
    import numpy as np

    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set
    from contour_ai.dicom.scan import find_patient
    from contour_ai.files import check_target
    from contour_ai.mask_files import save_masks

    chosen = file_format or {".npz": "npz", ".dcm": "seg"}.get(output.suffix, "nifti")
    if chosen == "npz" and output.suffix != ".npz":
        raise click.UsageError("--format npz writes one file: give --out a name that ends in .npz")
    inputs = [patient_dir, *(path for path in (rtstruct, roi_map) if path is not None)]
    if chosen not in ("npz", "seg"):  # these write one file, the others a folder
        check_target(output, overwrite=overwrite, inputs=inputs)
    patient = find_patient(patient_dir, series_uid=series_uid, rtstruct=rtstruct, needs_rtstruct=True)
    for problem in patient.problems:
        _note(problem)
    ct = read_ct(patient.ct, acquisition=acquisition, with_pixels=False)
    for note in ct.notes:
        _note(f"CT: {note}")
    structure_set = load_structure_set(patient.structure_sets[0].path)
    renamed = _names(structure_set.names, rois, roi_map)
    voxels: dict[str, int] = {}

    def masks() -> Iterator[tuple[str, NDArray[bool_]]]:
        for name, mask in iter_masks(structure_set, ct, list(renamed), on_note=_note):
            voxels[renamed[name]] = int(np.count_nonzero(mask))
            yield renamed[name], mask

    if chosen == "seg":
        from contour_ai.cli.to_seg import show_written
        from contour_ai.dicom.seg_write import SegmentationOrigin, write_masks

        origin = SegmentationOrigin(algorithm="MANUAL")
        show_written(output, write_masks(output, masks(), ct, origin, overwrite=overwrite, inputs=inputs))
        return
    if chosen in ("stl", "ply"):
        _write_surfaces(output, masks(), voxels, ct, (structure_set, renamed), chosen, overwrite, inputs)
        return
    files = save_masks(
        output,
        masks(),
        ct.grid,
        format=chosen,  # type: ignore[arg-type]
        overwrite=overwrite,
        inputs=inputs,
        on_note=_note,
    )
    for name, count in voxels.items():
        out().print(f"{name}: {count} voxels")
    out().print(f"{len(files)} masks {ct.grid.shape_kij} in {output}")


def _write_surfaces(
    folder: Path,
    masks: Iterator[tuple[str, NDArray[bool_]]],
    voxels: dict[str, int],
    ct: CTSeries,
    source: tuple[StructureSet, dict[str, str]],
    file_format: str,
    overwrite: bool,
    inputs: list[Path],
) -> None:
    """A surface file for every ROI, in the colour that it has in the structure set."""
    from dataclasses import replace

    from contour_ai.files import atomic_folder
    from contour_ai.structures import roi_info
    from contour_ai.surfaces import mesh_of_mask, write_surfaces

    structure_set, renamed = source
    colors = {renamed[roi.name]: roi.color for roi in structure_set.rois if roi.name in renamed}

    def info(name: str) -> RoiInfo:
        known = roi_info(name)
        return replace(known, color=colors.get(name) or known.color)

    with atomic_folder(folder, overwrite=overwrite, inputs=inputs) as temporary:
        surfaces = ((info(name), mesh_of_mask(mask, ct.grid)) for name, mask in masks)
        written = write_surfaces(temporary, surfaces, file_format)  # type: ignore[arg-type]
    for name, volume in written.volumes_cm3.items():
        out().print(f"{name}: {voxels[name]} voxels, surface of {volume:.2f} cm3")
    for name in written.empty:
        _note(f"ROI {name} has no voxel and no surface")
    out().print(f"{len(written.paths)} surfaces in {folder}")


def _names(in_file: tuple[str, ...], rois: str | None, roi_map: Path | None) -> dict[str, str]:
    """{name in the structure set: name to write}."""
    from contour_ai.errors import InputError

    wanted = list(in_file)
    if rois is not None:
        split = [name.strip() for name in rois.split(",") if name.strip()]
        asked = [rois.strip()] if rois.strip() in in_file else split  # real names may have commas
        unknown = [name for name in asked if name not in in_file]
        if unknown:
            raise InputError(
                "The structure set has no such ROI.", found=", ".join(unknown), expected=", ".join(in_file)
            )
        wanted = asked
    if roi_map is None:
        return {name: name for name in wanted}
    from contour_ai.structures.roi_map import RoiMap

    mapped = RoiMap.load(roi_map).apply(wanted)
    renamed = {name: mapped.rois[name] for name in wanted if name in mapped.rois}
    for name in mapped.unmapped:
        _note(f"ROI {name} is not in the map and is left out")
    twice = sorted({n for n in renamed.values() if list(renamed.values()).count(n) > 1})
    if twice:
        raise InputError("The map gives several ROIs the same name.", where=roi_map, found=", ".join(twice))
    return renamed


def _note(text: str) -> None:
    err().print(f"note: {text}", style="yellow")
