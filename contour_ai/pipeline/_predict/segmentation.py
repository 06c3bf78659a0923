"""The prediction as DICOM SEG, beside its structure set and with the same ROI names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.bundle import ModelBundle
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.seg_write import Segment, SegmentationOrigin, write_segmentation
from contour_ai.pipeline.result import PredictedRoi


def write_seg(
    rois: Sequence[PredictedRoi],
    names: Mapping[str, str],
    ct: CTSeries,
    bundle: ModelBundle,
    folder: Path,
    *,
    fractional: bool,
) -> Path:
    """Writes SEG.<SOPInstanceUID>.dcm with the ROIs that the structure set has.

    Args:
        names: name of each ROI in the structure set, by the model's name.
        fractional: write probabilities, not masks. Where a ROI's contour does not run at one half, the two differ.

    Raises:
        ConfigError: highdicom is not installed.
        VerificationError: the file did not read back equal.
    """
    segments = [
        Segment(name=names[r.info.name], box=r.box, values=_values(r, fractional), color=r.info.color)
        for r in rois
        if r.box is not None and r.info.name in names
    ]
    origin = SegmentationOrigin(
        label=bundle.name,
        description=f"contour-ai {bundle.name}: needs review",
        algorithm_name=bundle.name,
        algorithm_version=bundle.version,
    )
    path = folder / "SEG.dcm"
    uid = write_segmentation(path, segments, ct, origin)
    return path.rename(path.with_name(f"SEG.{uid}.dcm"))


def _values(roi: PredictedRoi, fractional: bool) -> NDArray[np.bool_] | NDArray[np.float32]:
    """(k, i, j) in the ROI's box: its mask, or the probability of every voxel."""
    assert roi.inside is not None
    if not fractional:
        return roi.inside
    if roi.level is None:
        return roi.inside.astype(np.float32)
    probability: NDArray[np.float32] = 1 / (1 + np.exp(-np.clip(roi.level + roi.threshold, -30, 30)))
    return probability
