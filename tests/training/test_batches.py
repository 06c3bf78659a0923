"""Batches depend on the seed and the step alone, and see every patient once an epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_cases import case

from contour_ai.preprocess import PreprocessSettings
from contour_ai.training.batches import Batch, BatchMaker
from contour_ai.training.config import AugmentationConfig
from contour_ai.volume import ABSENT, CONTOURED, UNKNOWN

SETTINGS = PreprocessSettings(spacing_mm_kij=(4.0, 4.0, 4.0), windows_hu=((-160.0, 240.0), (-500.0, 1500.0)))


def maker(
    patch=(16, 16, 16), augmentation=None, foreground_fraction=1.0, number=5, size=2, cases=None, **more
) -> BatchMaker:  # type: ignore[no-untyped-def]
    several = [case(n, presence=(True, n % 2 == 0, True)) for n in range(number)]
    options = {"device": torch.device("cpu"), **more}
    return BatchMaker(
        several if cases is None else cases,
        SETTINGS,
        patch_kij=patch,
        batch_size=size,
        foreground_fraction=foreground_fraction,
        augmentation=augmentation,
        mirror=(1, 0, 2),
        seed=7,
        **options,
    )


def test_shapes_types_and_layout() -> None:
    batch = maker().batch(0)
    assert batch.images.shape == (2, 2, 16, 16, 16) and batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.targets.shape == (2, 3, 16, 16, 16) and batch.targets.dtype == torch.bool
    assert batch.states.shape == (2, 3) and batch.states.device.type == "cpu"


def test_the_same_step_is_the_same_batch_whatever_came_before() -> None:
    one, other = maker(augmentation=AugmentationConfig()), maker(augmentation=AugmentationConfig())
    for step in range(3):
        one.batch(step)
    a, b = one.batch(3), other.batch(3)
    assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
    assert one.patient_ids(3) == other.patient_ids(3)


def test_every_patient_once_an_epoch() -> None:
    made = maker()
    seen = [p for step in range(5) for p in made.patient_ids(step)]
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
    from contour_ai.training.patients import SIGNED, as_tensor
    from contour_ai.volume import bits_dtype

    dtype = bits_dtype(number)
    bits = np.zeros((2, 3, 4), dtype)
    bits[0, 0, 0] = dtype.type(1 << (dtype.itemsize * 8 - 1)) | dtype.type(1)
    masks = unpack(as_tensor(bits, SIGNED[dtype.itemsize]), dtype.itemsize * 8)
    assert masks[:, 0, 0, 0].nonzero().ravel().tolist() == [0, dtype.itemsize * 8 - 1]


def assert_same(a: Batch, b: Batch) -> None:
    assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
    assert torch.equal(a.states, b.states)


def test_two_processes_see_together_what_one_sees() -> None:
    augmentation = AugmentationConfig()
    one = maker(augmentation=augmentation, size=4)
    two = [maker(augmentation=augmentation, process=(rank, 2)) for rank in range(2)]
    for step in range(3):
        whole, halves = one.batch(step), [part.batch(step) for part in two]
        for name in ("images", "targets", "states"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))
        assert one.patient_ids(step) == two[0].patient_ids(step) == two[1].patient_ids(step)


def test_streamed_and_staying_patients_give_the_same_batches() -> None:
    staying, streamed = maker(stay=True), maker(stay=False)
    assert staying.patients.stay and not streamed.patients.stay
    for step in (0, 1, 2, 7, 3):  # the jumps take patients that were not expected
        assert_same(staying.batch(step), streamed.batch(step))
    staying.patients.leave()
    assert_same(staying.batch(4), streamed.batch(4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_streamed_and_staying_patients_give_the_same_batches_on_a_gpu() -> None:
    staying, streamed = (maker(stay=stay, device=torch.device("cuda")) for stay in (True, False))
    for step in range(5):
        assert_same(staying.batch(step), streamed.batch(step))


def test_pieces_are_the_batch() -> None:
    batch = maker(size=3).batch(0)
    pieces = batch.pieces(2)
    assert [len(piece.images) for piece in pieces] == [2, 1]
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), batch.targets)
    assert torch.equal(torch.cat([piece.states for piece in pieces]), batch.states)


def test_absent_is_not_unknown() -> None:
    cases = [replace(case(0, presence=(True, False, False)), absent=("Brainstem",))]
    batch = maker(cases=cases, size=1).batch(0)
    assert batch.states.tolist() == [[CONTOURED, UNKNOWN, ABSENT]] and not batch.targets[0, 2].any()


def test_usual_shares_are_means_over_the_patients_that_have_the_roi() -> None:
    cases = [case(0), case(1, presence=(True, False, True)), case(2, presence=(False, False, True))]
    voxels = [[int(((c.bits >> r) & 1).sum()) for c in cases] for r in range(3)]
    shares = maker(cases=cases, patch=(8, 8, 8)).usual_shares
    assert shares.tolist() == pytest.approx(
        [(voxels[0][0] + voxels[0][1]) / 2 / 512, voxels[1][0] / 512, sum(voxels[2]) / 3 / 512]
    )
    assert maker(cases=[case(0, presence=(False, True, True))]).usual_shares[0] == 0
    assert (maker(cases=cases, patch=(2, 2, 2)).usual_shares == 1).all()
