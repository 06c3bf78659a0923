"""Runs the second reader of a model: what another small network finds in the same image, on the model's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from contour_ai.bundle import InferenceSettings, ModelBundle, RoiPostprocess, SecondReader
from contour_ai.inference import Predictor
from contour_ai.postprocess import apply_rule
from contour_ai.preprocess.coarser import coarser_shape, to_coarser

Bool = NDArray[np.bool_]
LEAST_ROI_DICE = 0.4
"""In validation: the second reader has no opinion on a ROI that it finds worse."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SecondNetwork:
    """The second reader of a bundle with its network on a device."""

    bundle: ModelBundle
    reader: SecondReader
    network: nn.Module
    device: torch.device
    autocast: torch.dtype | None

    @classmethod
    def of(
        cls, bundle: ModelBundle, device: torch.device, autocast: torch.dtype | None
    ) -> SecondNetwork | None:
        """That of a bundle; None where it has none.

        Raises:
            ModelError: its weights cannot be used.
        """
        network = bundle.build_second_reader(device)
        if network is None or bundle.second_reader is None:
            return None
        return cls(
            bundle=bundle, reader=bundle.second_reader, network=network, device=device, autocast=autocast
        )

    def logits(self, hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
        """(R, k, i, j) logits on the model's grid, of an image (k, i, j) on it."""
        shape = coarser_shape(hu.shape, spacing_mm, self.reader.spacing_mm_kij)
        predictor = Predictor(
            network=self.network,
            preprocess=self.bundle.preprocess,
            inference=InferenceSettings(),
            device=self.device,
            autocast=self.autocast,
        )
        coarse = torch.from_numpy(predictor.logits(to_coarser(hu, shape)))
        if coarse.shape[1:] == hu.shape:
            return np.asarray(coarse.numpy())
        fine = nn.functional.interpolate(coarse[None], size=hu.shape, mode="trilinear", align_corners=False)
        return np.asarray(fine[0].numpy())

    def masks(
        self, hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], body: Bool
    ) -> Mapping[str, Bool]:
        """{ROI: what it finds, (k, i, j)}: within the body, the largest part where the model's own rule says so.

        ROIs that it found with a Dice below `LEAST_ROI_DICE` in validation are not there.
        """
        voxel_cm3 = float(np.prod(spacing_mm)) / 1000
        found = {}
        for logit, name in zip(self.logits(hu, spacing_mm), self.bundle.roi_names, strict=True):
            if self.reader.dice.get(name, 1.0) < LEAST_ROI_DICE:
                continue
            rule = RoiPostprocess(largest_component=self.bundle.postprocess_of(name).largest_component)
            kept, level = apply_rule(logit, rule, voxel_cm3)
            found[name] = (kept > level) & body
        return found
