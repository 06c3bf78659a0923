"""contour-ai: exact, open auto-contouring for radiotherapy (DICOM CT in, DICOM RTSTRUCT out).

The names in `__all__` are the public Python API. Each is loaded when it is first used, so that importing the package
imports neither torch nor pydicom. Every other name and module may move from one version to the next.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from contour_ai.bundle import ModelBundle
    from contour_ai.dicom.ct import CTSeries, read_ct
    from contour_ai.dicom.profile import Profile
    from contour_ai.dicom.rtstruct_header import Provenance
    from contour_ai.dicom.rtstruct_read import read_structures
    from contour_ai.dicom.rtstruct_write import write_structures
    from contour_ai.errors import (
        ConfigError,
        ContourAIError,
        GeometryError,
        InputError,
        ModelError,
        NoImageError,
        OutputError,
        UnforeseenError,
        VerificationError,
    )
    from contour_ai.evaluation.limits import Limit, Limits, RoiLimits
    from contour_ai.evaluation.tolerances import Tolerances, ToleranceSource
    from contour_ai.grid import Grid
    from contour_ai.pipeline._commission import Commissioning, CommissionOptions, commission
    from contour_ai.pipeline._derive import Derivation, DeriveOptions, derive
    from contour_ai.pipeline._evaluate import Evaluation, evaluate
    from contour_ai.pipeline._predict import LoadedModel, PredictOptions, load_model, predict
    from contour_ai.pipeline._review import Review, ReviewOptions, review
    from contour_ai.pipeline._train import TrainOptions, train
    from contour_ai.pipeline.result import Prediction
    from contour_ai.progress import OnProgress, ProgressEvent
    from contour_ai.structures.roi_map import RoiMap
    from contour_ai.structures.roi_record import RoiInfo
    from contour_ai.training.config import TrainConfig
    from contour_ai.volume import Structures, Volume

_MODULE_OF = {
    "predict": "pipeline._predict",
    "PredictOptions": "pipeline._predict",
    "Prediction": "pipeline.result",
    "load_model": "pipeline._predict",
    "LoadedModel": "pipeline._predict",
    "ModelBundle": "bundle",
    "train": "pipeline._train",
    "TrainOptions": "pipeline._train",
    "TrainConfig": "training.config",
    "RoiMap": "structures.roi_map",
    "evaluate": "pipeline._evaluate",
    "Evaluation": "pipeline._evaluate",
    "commission": "pipeline._commission",
    "CommissionOptions": "pipeline._commission",
    "Commissioning": "pipeline._commission",
    "Limits": "evaluation.limits",
    "RoiLimits": "evaluation.limits",
    "Limit": "evaluation.limits",
    "Tolerances": "evaluation.tolerances",
    "ToleranceSource": "evaluation.tolerances",
    "derive": "pipeline._derive",
    "DeriveOptions": "pipeline._derive",
    "Derivation": "pipeline._derive",
    "review": "pipeline._review",
    "ReviewOptions": "pipeline._review",
    "Review": "pipeline._review",
    "read_ct": "dicom.ct",
    "CTSeries": "dicom.ct",
    "read_structures": "dicom.rtstruct_read",
    "write_structures": "dicom.rtstruct_write",
    "Provenance": "dicom.rtstruct_header",
    "Profile": "dicom.profile",
    "RoiInfo": "structures.roi_record",
    "Grid": "grid",
    "Volume": "volume",
    "Structures": "volume",
    "ProgressEvent": "progress",
    "OnProgress": "progress",
    "ContourAIError": "errors",
    "InputError": "errors",
    "GeometryError": "errors",
    "ModelError": "errors",
    "ConfigError": "errors",
    "OutputError": "errors",
    "VerificationError": "errors",
    "NoImageError": "errors",
    "UnforeseenError": "errors",
}
"""Public name: module of this package that holds it. A new one also goes into the imports above and into `__all__`."""

__all__ = [
    "CTSeries",
    "CommissionOptions",
    "Commissioning",
    "ConfigError",
    "ContourAIError",
    "Derivation",
    "DeriveOptions",
    "Evaluation",
    "GeometryError",
    "Grid",
    "InputError",
    "Limit",
    "Limits",
    "LoadedModel",
    "ModelBundle",
    "ModelError",
    "NoImageError",
    "OnProgress",
    "OutputError",
    "PredictOptions",
    "Prediction",
    "Profile",
    "ProgressEvent",
    "Provenance",
    "Review",
    "ReviewOptions",
    "RoiInfo",
    "RoiLimits",
    "RoiMap",
    "Structures",
    "ToleranceSource",
    "Tolerances",
    "TrainConfig",
    "TrainOptions",
    "UnforeseenError",
    "VerificationError",
    "Volume",
    "commission",
    "derive",
    "evaluate",
    "load_model",
    "predict",
    "read_ct",
    "read_structures",
    "review",
    "train",
    "write_structures",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
