"""Trains a model on an archive: DICOM patients in; a run folder with checkpoints, curves and a model bundle out."""

from contour_ai.pipeline._train.options import (
    BUNDLE,
    CHECK_FILE,
    CONFIG_FILE,
    CURATION_PAGE,
    MAP_FILE,
    TrainOptions,
)
from contour_ai.pipeline._train.preparing import check_archive, refuse_faults
from contour_ai.pipeline._train.run import train

__all__ = [
    "BUNDLE",
    "CHECK_FILE",
    "CONFIG_FILE",
    "CURATION_PAGE",
    "MAP_FILE",
    "TrainOptions",
    "check_archive",
    "refuse_faults",
    "train",
]
