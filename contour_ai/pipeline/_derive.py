"""`derive`: structures made by a recipe from those of a patient's structure set, written and verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contour_ai.derived.derivation import DerivedRoi, SourceRois, derive_rois
from contour_ai.derived.recipe import Recipe, load_recipe
from contour_ai.derived.region import Region, redrawn, traced_contours
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.profile import load_profile
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import (
    RoiContoursRead,
    StructureSet,
    contours_on_slices,
    load_structure_set,
    refuse_strangers,
)
from contour_ai.dicom.rtstruct_write import RoiContours
from contour_ai.dicom.scan import find_patient
from contour_ai.dicom.verify import ExpectedMask
from contour_ai.errors import InputError, VerificationError
from contour_ai.pipeline._output import Output, OutputOptions, write_output
from contour_ai.polygons import HoleStyle, Polygon
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.structures import INTERPRETED_TYPES, RoiInfo, roi_info


@dataclass(frozen=True, kw_only=True)
class DeriveOptions:
    """What `derive` can be told besides patient, recipe and output."""

    rtstruct: Path | None = None
    """The structure set to derive from; None: the only one that belongs to the CT, or `into`."""
    into: Path | None = None
    """A structure set: the output is a copy of it with the derived ROIs added."""
    template: Path | None = None
    """A structure template: names, colours, types and order of the output."""
    profile: str = "generic"
    """What the importer accepts: a profile's name, or a YAML file."""
    label: str = "derived"
    """StructureSetLabel of a new structure set."""
    series_uid: str | None = None
    """The CT series to take where the folder has several."""
    acquisition: int | None = None
    """AcquisitionNumber of the CT, where the series has several."""
    withheld: tuple[tuple[str, str], ...] = ()
    """(ROI, why) from which nothing may be derived."""
    overwrite: bool = False
    """Replace a structure set that is there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Derivation:
    """What `derive` has written.

    Args:
        path: the structure set that was written.
        rois: the derived ROIs in it, in the recipe's order.
        names: {name in the recipe: name in the file}; ROIs that a template wants are among them, empty.
        missing: ROIs that the template has and the structure set does not; empty without a template.
        notes: sentences for the user: what was missing, skipped, empty or cut off.
    """

    path: Path
    rois: tuple[DerivedRoi, ...]
    names: Mapping[str, str]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def derive(
    patient_dir: Path | str,
    recipe: str | Path | Mapping[str, object] | Recipe,
    out: Path | str,
    options: DeriveOptions | None = None,
    on_progress: OnProgress = no_progress,
) -> Derivation:
    """Makes the structures of a recipe from the ROIs of a patient's structure set.

    Args:
        patient_dir: folder with the CT, and with the structure set unless the options name one.
        recipe: a recipe's name, the path of a YAML file, its content, or a `Recipe`.
        out: the RTSTRUCT file to write.
        options: structure set, template, importer's profile and so on; None for the defaults.
        on_progress: told how far it has come.

    Returns:
        Where the structure set is, which ROIs it has, and what was missing.

    Raises:
        InputError: CT or structure set cannot be used, or a required structure cannot be made.
        ConfigError: the recipe, the template or the profile cannot be used.
        OutputError: `out` exists or cannot be written.
        VerificationError: the file did not read back as it was meant; nothing is left.
    """
    options = options or DeriveOptions()
    loaded = load_recipe(recipe)
    patient_dir, out = Path(patient_dir), Path(out)
    on_progress(ProgressEvent(stage="reading", done=0, total=3))
    source = options.rtstruct or options.into
    files = find_patient(
        patient_dir, series_uid=options.series_uid, rtstruct=source, needs_rtstruct=source is None
    )
    ct = read_ct(files.ct, acquisition=options.acquisition, with_pixels=False)
    path = files.structure_sets[0].path
    notes = [*files.problems, *ct.notes]
    structure_set = load_structure_set(path)
    refuse_strangers(structure_set, ct)
    sources = sources_of(structure_set, ct, notes.append, dict(options.withheld))
    on_progress(ProgressEvent(stage="deriving", done=1, total=3))
    rois = derive_rois(loaded, sources, notes.append)
    if not rois:
        raise InputError(
            "The recipe gives no structure for this patient.",
            where=path,
            found="; ".join(notes),
            expected=", ".join(sources.regions) or "ROIs",
            fix="the names in the recipe are those of the structure set, or TG-263's",
        )
    on_progress(ProgressEvent(stage="writing", done=2, total=3))
    output = write_derived(
        out,
        rois,
        ct,
        loaded,
        OutputOptions(
            into=options.into,
            template=options.template,
            profile=options.profile,
            overwrite=options.overwrite,
            inputs=(path,),
        ),
        label=options.label,
        origin=f"structure set {structure_set.label or path.name} ({structure_set.sop_instance_uid})",
    )
    on_progress(ProgressEvent(stage="writing", done=3, total=3))
    return Derivation(
        path=output.path,
        rois=tuple(rois),
        names=output.names,
        missing=output.missing,
        notes=(*notes, *output.notes),
    )


def sources_of(
    structure_set: StructureSet,
    ct: CTSeries,
    on_note: Callable[[str], None],
    withheld: Mapping[str, str],
) -> SourceRois:
    """The ROIs of a structure set on the slices of its CT, each placed when a recipe asks for it."""
    for note in structure_set.notes:
        on_note(f"{structure_set.path.name}: {note}")

    def region_of(roi: RoiContoursRead) -> Callable[[], Region]:
        return lambda: Region(contours_on_slices(roi, ct, on_note), ct.grid)

    infos = {roi.name: _info(roi) for roi in structure_set.rois}
    return SourceRois(
        grid=ct.grid,
        regions={roi.name: region_of(roi) for roi in structure_set.rois},
        infos=infos,
        withheld=withheld,
    )


def _info(roi: RoiContoursRead) -> RoiInfo:
    base = roi_info(roi.name)
    kind = roi.interpreted_type if roi.interpreted_type in INTERPRETED_TYPES else base.interpreted_type
    color = roi.color if roi.color is not None and all(0 <= c <= 255 for c in roi.color) else base.color
    return RoiInfo(name=roi.name, color=color, interpreted_type=kind, mirror=base.mirror)


def contours_of(
    rois: Sequence[DerivedRoi],
    recipe: Recipe,
    *,
    holes: HoleStyle = "keyhole",
    algorithm: str = "SEMIAUTOMATIC",
) -> tuple[list[RoiContours], dict[str, ExpectedMask]]:
    """What is written of derived ROIs, and the masks that must read back."""
    of = _recipe_in_words(recipe, 16)
    contours = [
        RoiContours(
            info=roi.info,
            slices=_slices(roi.region, holes),
            description=f"derived: {roi.description}; {of}",
            algorithm=algorithm,
        )
        for roi in rois
    ]
    return contours, {roi.info.name: roi.region.filled for roi in rois}


def _recipe_in_words(recipe: Recipe, digits: int) -> str:
    if not recipe.sha256:
        return "a recipe given from Python"
    return f"recipe {Path(recipe.source).name} (SHA-256 {recipe.sha256[:digits]})"


def _slices(region: Region, holes: HoleStyle) -> Mapping[int, Sequence[Polygon]]:
    if holes == "keyhole" or region.level is None:
        return region.slices
    return traced_contours(region.level, holes)


def write_derived(
    out: Path,
    rois: Sequence[DerivedRoi],
    ct: CTSeries,
    recipe: Recipe,
    options: OutputOptions,
    *,
    label: str,
    origin: str,
) -> Output:
    """Writes derived ROIs as a structure set of their own, or into a copy of another.

    Contours that are copied as they are may run through voxel centres: they are written with the digits that keep them
    there. Where even that does not read back, they are drawn anew, with the same voxels.
    """
    provenance = Provenance(
        label=label,
        series_description=f"contour-ai {label}: needs review",
        description=f"Derived from {origin} by {_recipe_in_words(recipe, 64)}. Needs review before use.",
    )
    profile = load_profile(options.profile)
    copied = [roi for roi in rois if roi.region.level is None]
    exact = replace(
        options, profile=replace(profile, decimals=MOST_COORDINATE_DECIMALS) if copied else profile
    )
    try:
        contours, expected = contours_of(rois, recipe, holes=profile.holes)
        return write_output(out, contours, expected, ct, provenance, exact)
    except VerificationError:
        if not copied:
            raise
    drawn = [replace(roi, region=redrawn(roi.region)) for roi in rois]
    contours, expected = contours_of(drawn, recipe, holes=profile.holes)
    output = write_output(out, contours, expected, ct, provenance, replace(options, profile=profile))
    note = (
        f"{', '.join(roi.info.name for roi in copied)}: contours that run through voxel centres were moved off them by "
        "up to 0.05 voxel; the voxels are the same"
    )
    return replace(output, notes=(*output.notes, note))


MOST_COORDINATE_DECIMALS = 6
"""Of a coordinate in mm; what fits a DS of 16 characters at any place in a scanner."""
