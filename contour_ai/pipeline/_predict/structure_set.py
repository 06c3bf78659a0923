"""The structure set of a prediction: its ROIs, what a recipe derives from them, in a file of their own or a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.bundle import ModelBundle
from contour_ai.bundle.commissioned_record import CommissionedRecord, commissioned_sentence
from contour_ai.derived.derivation import DerivedRoi, SourceRois, derive_rois
from contour_ai.derived.recipe import Recipe, load_recipe
from contour_ai.derived.region import Level, Region, region_of_level
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.profile import Profile, load_profile
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.dicom.rtstruct_write import (
    RoiContours,
    WrittenStructureSet,
    contours_of_level,
    contours_of_mask,
)
from contour_ai.dicom.verify import ExpectedMask
from contour_ai.grid import Grid
from contour_ai.pipeline._derive import contours_of, sources_of
from contour_ai.pipeline._output import OutputOptions, write_output
from contour_ai.pipeline._predict.options import PredictOptions
from contour_ai.pipeline.result import PredictedRoi
from contour_ai.quality.flag import PatientFlags
from contour_ai.structures.template_files import load_template


@dataclass(frozen=True, kw_only=True)
class WrittenPrediction:
    """The structure set of a prediction, and what was derived."""

    structure_set: WrittenStructureSet
    derived: tuple[DerivedRoi, ...] = ()
    missing: tuple[str, ...] = field(default=())
    """ROIs of the template that are not there."""


def check_output(options: PredictOptions) -> None:
    """Reads what the output is made with, to know before the work rather than after it.

    Raises:
        ConfigError: the profile, the recipe or the template cannot be used.
        InputError: the structure set to add to cannot be read.
    """
    load_profile(options.profile)
    if options.derive is not None:
        load_recipe(options.derive)
    if options.template is not None:
        load_template(options.template)
    if options.into is not None:
        load_structure_set(options.into)


def write_prediction(
    rois: Sequence[PredictedRoi],
    flags: PatientFlags,
    ct: CTSeries,
    bundle: ModelBundle,
    options: PredictOptions,
    folder: Path,
    *,
    withheld: Mapping[str, str] | None = None,
    commissioned: CommissionedRecord | None = None,
) -> WrittenPrediction:
    """Writes RS.<SOPInstanceUID>.dcm, verified; empty ROIs are left out.

    Args:
        withheld: {ROI: why its contours must not be used}: they are not written, nothing is derived from them, and in a
            copy of a structure set the old contours of that name are left out, too.
        commissioned: the model's record on this machine.
    """
    withheld = withheld or {}
    profile = load_profile(options.profile)
    found = [r for r in rois if r.box is not None and r.info.name not in withheld]
    contours = [_contours(roi, profile, _described(flags, roi.info.name)) for roi in found]
    expected: dict[str, ExpectedMask] = {}
    for roi in found:
        assert roi.box is not None and roi.inside is not None
        expected[roi.info.name] = roi.box, roi.inside
    notes: list[str] = []
    derived: list[DerivedRoi] = []
    if options.derive is not None:
        recipe = load_recipe(options.derive)
        derived = _derived(recipe, found, ct, options.into, withheld, notes.append)
        more, masks = contours_of(derived, recipe, holes=profile.holes, algorithm="AUTOMATIC")
        again = {roi.info.name for roi in more}
        notes += [
            f"ROI {name}: the recipe's takes the place of the model's" for name in again & set(expected)
        ]
        contours = [c for c in contours if c.info.name not in again] + more
        expected.update(masks)
    phantom = "A phantom model: never for a patient. " if bundle.kind == "phantom" else ""
    provenance = Provenance(
        label=bundle.name,
        series_description=f"contour-ai {bundle.name}: {'not for patients' if phantom else 'needs review'}",
        description=f"Automatic contours of {bundle.name} {bundle.version}. {phantom}Needs review before use. "
        f"{commissioned_sentence(commissioned)}",
        model=bundle.name,
        model_version=bundle.version,
        weights_sha256=bundle.weights_sha256,
        uids_from=options.uids_from,
    )
    output = write_output(
        folder / "RS.dcm",
        contours,
        expected,
        ct,
        provenance,
        OutputOptions(
            into=options.into, template=options.template, profile=profile, leave_out=tuple(withheld)
        ),
    )
    final = output.path.with_name(f"RS.{output.sop_instance_uid}.dcm")
    written = WrittenStructureSet(
        path=output.path.rename(final),
        sop_instance_uid=output.sop_instance_uid,
        names=output.names,
        notes=(*notes, *output.notes),
    )
    return WrittenPrediction(structure_set=written, derived=tuple(derived), missing=output.missing)


def _derived(
    recipe: Recipe,
    found: Sequence[PredictedRoi],
    ct: CTSeries,
    into: Path | None,
    withheld: Mapping[str, str],
    on_note: Callable[[str], None],
) -> list[DerivedRoi]:
    """What a recipe makes of the predicted ROIs, and of those of the structure set that they are added to."""
    regions: dict[str, Callable[[], Region]] = {}
    infos = {roi.info.name: roi.info for roi in found}
    if into is not None:
        existing = sources_of(load_structure_set(into), ct, on_note, {})
        predicted = {name.casefold() for name in (*infos, *withheld)}
        regions.update({n: r for n, r in existing.regions.items() if n.casefold() not in predicted})
        infos = {**existing.infos, **infos}
    regions.update({roi.info.name: _region_maker(roi, ct.grid) for roi in found})
    regions.update({name: lambda: Region({}, ct.grid) for name in withheld})
    return derive_rois(
        recipe, SourceRois(grid=ct.grid, regions=regions, infos=infos, withheld=withheld), on_note
    )


def _region_maker(roi: PredictedRoi, grid: Grid) -> Callable[[], Region]:
    def region() -> Region:
        assert roi.box is not None and roi.inside is not None
        if roi.level is not None:
            k, i, j = (s.start for s in roi.box)
            return region_of_level(Level(roi.level, (k, i, j)), grid)
        return Region(contours_of_mask(roi.info, roi.inside, box=roi.box).slices, grid)

    return region


def _contours(roi: PredictedRoi, profile: Profile, description: str) -> RoiContours:
    assert roi.box is not None and roi.inside is not None
    if roi.level is None:
        return contours_of_mask(
            roi.info,
            roi.inside,
            box=roi.box,
            outline=profile.outline,
            holes=profile.holes,
            description=description,
        )
    return contours_of_level(roi.info, roi.level, roi.box, holes=profile.holes, description=description)


def _described(flags: PatientFlags, roi: str) -> str:
    """A ROI's flags for its ROIDescription, which holds 1024 characters."""
    return "; ".join(flag.reason for flag in flags.rois[roi])
