"""Starting from a trained model, also with other ROIs: shared ones keep their weights, new ones start fresh."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from contour_ai.errors import ModelError
from contour_ai.network import ResidualUNet3d

HEADS = ("head.", "deep_heads.")
"""Parameters with one row a ROI."""


def shared_and_new(rois: Sequence[str], trained: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ROIs that keep their weights, and those that start fresh."""
    return tuple(roi for roi in rois if roi in trained), tuple(roi for roi in rois if roi not in trained)


def start_from(
    network: ResidualUNet3d, rois: Sequence[str], trained: ResidualUNet3d, trained_rois: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copies weights into `network`.

    Returns:
        The ROIs that keep their weights, and those that start fresh.

    Raises:
        ModelError: the networks differ in more than their ROIs.
    """
    mine, theirs = network.state_dict(), trained.state_dict()
    shared, new = shared_and_new(rois, trained_rois)
    to = torch.tensor([list(rois).index(roi) for roi in shared], dtype=torch.long)
    source = torch.tensor([list(trained_rois).index(roi) for roi in shared], dtype=torch.long)
    with torch.no_grad():
        for name, value in mine.items():
            if name.startswith(HEADS):
                if name in theirs and shared:
                    value[to] = theirs[name][source].to(value.dtype)
            elif name in theirs and theirs[name].shape == value.shape:
                value.copy_(theirs[name])
            else:
                raise ModelError(
                    "The model to start from has another network.",
                    where=name,
                    found=tuple(theirs[name].shape) if name in theirs else "missing",
                    expected=tuple(value.shape),
                )
    return shared, new
