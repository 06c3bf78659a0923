"""Brings a CT to the grid a model was trained on, and the model's answer exactly back to the CT."""

from contour_ai.preprocess.body import AIR_BELOW_HU, body_mask
from contour_ai.preprocess.resampler import SPARSE, Resampler
from contour_ai.preprocess.settings import PreprocessSettings, image_channels, window
from contour_ai.preprocess.to_ct import resample_logits_to_ct
from contour_ai.preprocess.to_model import Prepared, prepare, resample_mask, resample_structures
from contour_ai.preprocess.weights import axis_weights, cubic_weights

__all__ = [
    "AIR_BELOW_HU",
    "SPARSE",
    "Prepared",
    "PreprocessSettings",
    "Resampler",
    "axis_weights",
    "body_mask",
    "cubic_weights",
    "image_channels",
    "prepare",
    "resample_logits_to_ct",
    "resample_mask",
    "resample_structures",
    "window",
]
