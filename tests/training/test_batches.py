"""Batches depend on the seed and the step alone, and see every patient once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import case

from contour_ai.preprocess import PreprocessSettings
from contour_ai.training.batches import BatchMaker
from contour_ai.training.config import AugmentationConfig

SETTINGS = PreprocessSettings((4.0, 4.0, 4.0), ((-160.0, 240.0), (-500.0, 1500.0)))


def maker(patch=(16, 16, 16), augmentation=None, roi_share=1.0, number=5) -> BatchMaker:  # type: ignore[no-untyped-def]
    cases = [case(n, presence=(True, n % 2 == 0, True)) for n in range(number)]
    return BatchMaker(
        cases,
        SETTINGS,
        patch_kij=patch,
        batch_size=2,
        roi_share=roi_share,
        augmentation=augmentation,
        mirror=(1, 0, 2),
        seed=7,
        device=torch.device("cpu"),
    )


def test_shapes_types_and_layout() -> None:
    batch = maker().batch(0)
    assert batch.images.shape == (2, 2, 16, 16, 16) and batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.targets.shape == (2, 3, 16, 16, 16) and batch.targets.dtype == torch.bool
    assert batch.presence.shape == (2, 3)


def test_the_same_step_is_the_same_batch_whatever_came_before() -> None:
    one, other = maker(augmentation=AugmentationConfig()), maker(augmentation=AugmentationConfig())
    for step in range(3):
        one.batch(step)
    a, b = one.batch(3), other.batch(3)
    assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
    assert a.patient_ids == b.patient_ids


def test_every_patient_once_an_epoch() -> None:
    made = maker()
    seen = [p for step in range(5) for p in made.batch(step).patient_ids]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [f"patient-{n}" for n in range(5)]
    assert seen[:5] != seen[5:]


def test_patches_are_centred_on_rois() -> None:
    made = maker(patch=(8, 8, 8))
    assert all(made.batch(step).targets[n].any() for step in range(10) for n in range(2))


def test_a_patch_larger_than_the_patient_is_padded_with_air() -> None:
    batch = maker(patch=(32, 32, 32)).batch(0)
    assert (batch.images[:, :, :4] == -1).all() and not batch.targets[:, :, :4].any()


@pytest.mark.parametrize("number", [9, 17, 33])
def test_many_rois_fit_into_bits(number: int) -> None:
    from contour_ai.training.augmentation import unpack
    from contour_ai.training.batches import SIGNED, _tensor
    from contour_ai.volume import bits_dtype

    dtype = bits_dtype(number)
    bits = np.zeros((2, 3, 4), dtype)
    bits[0, 0, 0] = dtype.type(1 << (dtype.itemsize * 8 - 1)) | dtype.type(1)
    masks = unpack(_tensor(bits, SIGNED[dtype.itemsize], torch.device("cpu")), dtype.itemsize * 8)
    assert masks[:, 0, 0, 0].nonzero().ravel().tolist() == [0, dtype.itemsize * 8 - 1]
