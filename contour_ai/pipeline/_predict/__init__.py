"""Contours patients: DICOM CT in; structure set, pictures and summary out, as a whole folder or not at all."""

from contour_ai.pipeline._predict.contouring import BODY, flags_of, restore_rois, run_network
from contour_ai.pipeline._predict.model import LoadedModel, LoadingModel, bundle_of, load_model
from contour_ai.pipeline._predict.opening import Opened, open_patient
from contour_ai.pipeline._predict.options import PredictOptions, options_record
from contour_ai.pipeline._predict.runs import Begun, Outcome, begin, predict, predict_patients
from contour_ai.pipeline._predict.stages import StageClock
from contour_ai.pipeline._predict.target import folder_name
from contour_ai.pipeline._predict.writing import REPORT

__all__ = [
    "BODY",
    "REPORT",
    "Begun",
    "LoadedModel",
    "LoadingModel",
    "Opened",
    "Outcome",
    "PredictOptions",
    "StageClock",
    "begin",
    "bundle_of",
    "flags_of",
    "folder_name",
    "load_model",
    "open_patient",
    "options_record",
    "predict",
    "predict_patients",
    "restore_rois",
    "run_network",
]
