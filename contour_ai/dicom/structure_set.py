"""A structure set as it is in its file, on no grid yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ContourRead:
    """One contour as it is in the file: (N, 3) LPS mm, geometric type, the image it refers to (or "")."""

    points_lps: NDArray[np.float64]
    geometric_type: str
    image_uid: str


@dataclass(frozen=True)
class ReferencedFrame:
    """A frame of reference that a structure set names, and what it lists as drawn on in it.

    Args:
        uid: FrameOfReferenceUID, or "".
        series_uids: series of images.
        image_uids: single images.
    """

    uid: str
    series_uids: frozenset[str] = frozenset()
    image_uids: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, kw_only=True)
class RoiContoursRead:
    """One ROI as it is in the file.

    Args:
        name: unique in the set.
        original_name: what the file says.
        number: ROINumber.
        contours: in the order of the file.
        color: RGB, 0 to 255 each; None where there is none, or none that can be read.
        interpreted_type: RTROIInterpretedType, or "".
        algorithm: ROIGenerationAlgorithm, or "".
        description: ROIDescription, or "".
        frame_of_reference_uid: ReferencedFrameOfReferenceUID, or "".
        frames: of the whole structure set.
        unreadable: contours that cannot be read, which the notes of the set name.
    """

    name: str
    original_name: str
    number: int
    contours: tuple[ContourRead, ...]
    color: tuple[int, int, int] | None = None
    interpreted_type: str = ""
    algorithm: str = ""
    description: str = ""
    frame_of_reference_uid: str = ""
    frames: tuple[ReferencedFrame, ...] = ()
    unreadable: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class StructureSet:
    """A structure set as it is in the file, on no grid yet; `notes` say what could not be used."""

    path: Path
    label: str
    sop_instance_uid: str
    patient_id: str
    frame_of_reference_uid: str
    """The first one that it names, or ""."""
    referenced_series_uids: tuple[str, ...]
    rois: tuple[RoiContoursRead, ...]
    notes: tuple[str, ...]
    frames: tuple[ReferencedFrame, ...] = field(default=())
    """Those of ReferencedFrameOfReferenceSequence, then others that single ROIs or the header name."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)
