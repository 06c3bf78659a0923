"""Writes contours as a new structure set, or into a copy of an existing one, styled by a department's template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.profile import Profile
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_into import add_to_copy
from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.dicom.rtstruct_write import RoiContours, write_structure_set
from contour_ai.dicom.verify import ExpectedMask
from contour_ai.structures.roi_record import RoiInfo
from contour_ai.structures.template import StructureTemplate, styled
from contour_ai.structures.template_files import load_template


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How contours are written."""

    into: Path | None = None
    """A structure set: the output is a copy of it, to which the ROIs are added."""
    template: Path | None = None
    """A structure template: names, colours, types and order."""
    profile: str | Path | Profile = "generic"
    """What the importer accepts."""
    overwrite: bool = False
    """Replace a structure set that is there."""
    leave_out: tuple[str, ...] = ()
    """ROIs of `into` that must not be in the copy, because the new contours of them must not be used."""
    inputs: tuple[Path, ...] = ()
    """Files that were read for this one, and are never replaced."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A structure set that was written; `names` is {name asked for: name in the file}, empty ROIs included."""

    path: Path
    sop_instance_uid: str
    names: Mapping[str, str]
    missing: tuple[str, ...] = ()
    """ROIs of the template that are not there."""
    notes: tuple[str, ...] = ()


def write_output(
    path: Path,
    rois: Sequence[RoiContours],
    expected: Mapping[str, ExpectedMask],
    ct: CTSeries,
    provenance: Provenance,
    options: OutputOptions | None = None,
) -> Output:
    """Writes ROIs, read back and compared voxel by voxel before the file is kept.

    Args:
        expected: {ROI name, as in `rois`: mask}.

    Raises:
        ConfigError: the template or the profile cannot be used.
        InputError, OutputError, VerificationError: as `write_structure_set` and `add_to_copy`.
    """
    options = options or OutputOptions()
    already = () if options.into is None else load_structure_set(options.into).names
    chosen = _styled(rois, options.template, already)
    masks = {chosen.names[name]: mask for name, mask in expected.items()}
    nothing = (slice(0, 1), slice(0, 1), slice(0, 1)), np.zeros((1, 1, 1), dtype=bool)
    masks.update({roi.info.name: nothing for roi in chosen.rois if roi.info.name not in masks})
    if options.into is not None:
        copied = add_to_copy(
            options.into,
            path,
            chosen.rois,
            ct,
            provenance,
            expected=masks,
            leave_out=options.leave_out,
            profile=options.profile,
            overwrite=options.overwrite,
        )
        uid, written, notes = copied.sop_instance_uid, copied.names, copied.notes
    else:
        new = write_structure_set(
            path,
            chosen.rois,
            ct,
            provenance,
            profile=options.profile,
            overwrite=options.overwrite,
            inputs=list(options.inputs),
            verify=masks,
        )
        uid, written, notes = new.sop_instance_uid, new.names, new.notes
    asked = {styled_name: name for name, styled_name in chosen.names.items()}
    return Output(
        path=path,
        sop_instance_uid=uid,
        names={asked.get(name, name): in_file for name, in_file in written.items()},
        missing=chosen.missing,
        notes=(*chosen.notes, *notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    rois: tuple[RoiContours, ...]
    names: Mapping[str, str]
    """{name asked for: name after the template}."""
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _styled(rois: Sequence[RoiContours], template: Path | None, already: Sequence[str]) -> _Chosen:
    if template is None:
        return _Chosen(rois=tuple(rois), names={roi.info.name: roi.info.name for roi in rois})
    loaded: StructureTemplate = load_template(template)
    style = styled(loaded, [roi.info for roi in rois], already=already)
    result: dict[str, RoiContours] = {}
    for roi in rois:
        info: RoiInfo = style.infos[roi.info.name]
        description = roi.description
        if info.name != roi.info.name:
            description = "; ".join(filter(None, (description, f"ROI {roi.info.name}")))
        result[info.name] = replace(roi, info=info, description=description)
    for info in style.empty:
        result[info.name] = RoiContours(
            info=info, slices={}, description="empty: required by the template, not contoured"
        )
    return _Chosen(
        rois=tuple(result[name] for name in style.order),
        names={roi: info.name for roi, info in style.infos.items()},
        missing=style.missing,
        notes=style.notes,
    )
