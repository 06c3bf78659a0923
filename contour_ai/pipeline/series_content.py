"""What is hashed of a CT series, so that a model knows again what it was trained on."""

from __future__ import annotations

import contextlib
from pathlib import Path

from contour_ai.bundle.seen_series import SeriesContent, slice_digests
from contour_ai.dicom.archive import CTSeriesFiles
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import InputError, UnforeseenError
from contour_ai.faults import patient_boundary
from contour_ai.training.cache import Case, SlicesOf, load_slice_digests


def content_of_case(case: Case, files: CTSeriesFiles) -> SeriesContent:
    """What is hashed of a patient that lies in the cache; the CT is read where the cache does not have it."""
    path = case.image.path if isinstance(case.image, SlicesOf) else case.image
    slices = load_slice_digests(path) if isinstance(path, Path) else None
    return (
        content_of_files(files)
        if slices is None
        else SeriesContent(uid=files.series_instance_uid, slices=slices)
    )


def content_of_files(files: CTSeriesFiles) -> SeriesContent:
    """What is hashed of a series; of one that cannot be read its UID alone."""
    slices: tuple[str, ...] = ()
    # Who needs the voxels of one that cannot be read will say so.
    doing = f"reading the CT of patient {files.patient_id}"
    with contextlib.suppress(InputError, UnforeseenError), patient_boundary(doing):
        slices = slice_digests(read_ct(files).hu)
    return SeriesContent(uid=files.series_instance_uid, slices=slices)
