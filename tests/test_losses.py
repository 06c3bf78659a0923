"""Uncontoured ROIs teach nothing, contoured ones are scored as by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from contour_ai.losses import coarser, masked_loss
from contour_ai.network import build_network


def test_an_uncontoured_roi_gets_exactly_zero_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    targets = torch.randint(0, 2, (2, 3, 4, 5, 6))
    presence = torch.tensor([[True, False, True], [True, False, False]])
    masked_loss(logits, targets, presence).backward()
    assert logits.grad is not None
    for n in range(2):
        for r in range(3):
            assert bool((logits.grad[n, r] != 0).any()) == bool(presence[n, r])


def test_an_uncontoured_roi_moves_no_weight_of_its_head() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=4, deep_supervision=1)
    maps = network(torch.randn(1, 1, 16, 16, 16))
    masked_loss(maps, torch.ones(1, 2, 16, 16, 16), torch.tensor([[True, False]])).backward()
    for head in (network.head, *network.deep_heads):
        assert (head.weight.grad[1] == 0).all() and head.bias.grad[1] == 0
        assert (head.weight.grad[0] != 0).any()


def test_uncontoured_logits_may_be_anything_even_infinite() -> None:
    logits = torch.zeros(1, 2, 2, 2, 2)
    logits[:, 1] = float("inf")
    logits.requires_grad_()
    loss = masked_loss(logits, torch.ones(1, 2, 2, 2, 2), torch.tensor([[1, 0]]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_value_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0, 3.0]).reshape(1, 1, 1, 2, 2)
    targets = torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(1, 1, 1, 2, 2)
    p = logits.sigmoid()
    dice = (2 * (p * targets).sum() + 1) / (p.sum() + 2 + 1)
    bce = F.binary_cross_entropy(p, targets)
    loss = masked_loss(logits, targets, torch.ones(1, 1), dice_weight=0.5, bce_weight=2.0)
    torch.testing.assert_close(loss, 0.5 * (1 - dice) + 2 * bce)


def test_dice_is_taken_over_the_batch() -> None:
    logits, targets = torch.randn(2, 1, 3, 3, 3), torch.randint(0, 2, (2, 1, 3, 3, 3)).float()
    together = masked_loss(logits, targets, torch.ones(2, 1), bce_weight=0)
    as_one = masked_loss(
        logits.reshape(1, 1, 6, 3, 3), targets.reshape(1, 1, 6, 3, 3), torch.ones(1, 1), bce_weight=0
    )
    torch.testing.assert_close(together, as_one)


def test_nothing_contoured_gives_zero_and_no_gradient() -> None:
    logits = torch.randn(1, 2, 3, 3, 3, requires_grad=True)
    loss = masked_loss(logits, torch.ones(1, 2, 3, 3, 3), torch.zeros(1, 2))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_half_precision_logits_are_scored_in_fp32() -> None:
    logits = torch.randn(1, 1, 4, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    assert masked_loss(logits, torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1)).dtype == torch.float32


@pytest.mark.parametrize("size", [(4, 4, 4), (5, 4, 3)])
def test_coarser_targets_are_covered_fractions(size: tuple[int, int, int]) -> None:
    targets = torch.randint(0, 2, (1, *size)).float()
    half = coarser(targets, [-(-n // 2) for n in size])
    assert (
        half[0, -1, -1, -1]
        == targets[0, (size[0] - 1) // 2 * 2 :, (size[1] - 1) // 2 * 2 :, (size[2] - 1) // 2 * 2 :].mean()
    )
