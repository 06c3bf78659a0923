"""Model bundles, `models/<name>/`: everything needed to predict, checked when it is read. Imports torch only to build.

A bundle is `model.yaml` (validated, unknown keys refused), `weights.safetensors` (no pickle, ever; its SHA-256 stands
in `model.yaml`) and `MODEL_CARD.md`; `second-reader.safetensors` where the model has a second reader.
"""

from contour_ai.bundle.description import (
    CARD_FILE,
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    InferenceSettings,
    ModelBundle,
    RoiCalibration,
    RoiPostprocess,
)
from contour_ai.bundle.reading import (
    FORMAT,
    MODELS_VARIABLE,
    default_bundle,
    find_bundle,
    list_bundles,
    load_bundle,
    model_folders,
    read_description,
    read_weights,
)
from contour_ai.bundle.records import (
    CrossValidatedRoi,
    CrossValidationRecord,
    DataRecord,
    MadeFrom,
    OtherRun,
    ResultsRecord,
    RoiData,
    RuleGain,
    RulesRecord,
    TrainingRecord,
    results_mapping,
    without_defaults,
)
from contour_ai.bundle.second_reader import SECOND_READER_FILE, SecondReader
from contour_ai.bundle.writing import add_second_reader, describe, save_bundle, update_bundle

__all__ = [
    "CARD_FILE",
    "DESCRIPTION_FILE",
    "FORMAT",
    "MODELS_VARIABLE",
    "SECOND_READER_FILE",
    "WEIGHTS_FILE",
    "CrossValidatedRoi",
    "CrossValidationRecord",
    "DataRecord",
    "InferenceSettings",
    "MadeFrom",
    "ModelBundle",
    "OtherRun",
    "ResultsRecord",
    "RoiCalibration",
    "RoiData",
    "RoiPostprocess",
    "RuleGain",
    "RulesRecord",
    "SecondReader",
    "TrainingRecord",
    "add_second_reader",
    "default_bundle",
    "describe",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "model_folders",
    "read_description",
    "read_weights",
    "results_mapping",
    "save_bundle",
    "update_bundle",
    "without_defaults",
]
