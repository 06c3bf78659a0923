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


def partly_known() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets, states and exclusive pairs: ROI 1 is contoured in sample 1 only; it never overlaps 0, but may 2."""
    targets = torch.zeros(2, 3, 4, 4, 6, dtype=torch.bool)
    targets[0, 0, :2], targets[0, 2, 1:3] = True, True
    targets[1, 1, 2:] = True
    states = torch.tensor([[1, 0, 1], [0, 1, 0]])
    exclusive = torch.zeros(3, 3, dtype=torch.bool)
    exclusive[0, 1] = exclusive[1, 0] = True
    return targets, states, exclusive


def test_an_unknown_roi_has_a_gradient_in_its_certain_negatives_and_nowhere_else() -> None:
    targets, states, exclusive = partly_known()
    logits = torch.randn(2, 3, 4, 4, 6)
    logits[0, 1, 3] = float("inf")
    logits[1, 2] = float("nan")
    logits.requires_grad_()
    masked_loss(logits, targets, states, exclusive=exclusive).backward()
    gradient = logits.grad
    assert gradient is not None
    assert (gradient[0, 1][targets[0, 0]] > 0).all()
    assert (gradient[0, 1][~targets[0, 0]] == 0).all()
    # In sample 1, ROI 0 is certainly not where ROI 1 is; nothing is known of ROI 2.
    assert ((gradient[1, 0] != 0) == targets[1, 1]).all()
    assert (gradient[1, 2] == 0).all()


def test_certain_negatives_of_coarse_maps_are_wholly_certain() -> None:
    targets, states, exclusive = partly_known()
    targets[0, 0] = False
    targets[0, 0, :3, :, :2] = True  # the second row of coarse voxels is half covered
    maps = [torch.randn(2, 3, 4, 4, 6), torch.randn(2, 3, 2, 2, 3, requires_grad=True)]
    masked_loss(maps, targets, states, exclusive=exclusive).backward()
    assert maps[1].grad is not None
    assert (maps[1].grad[0, 1, 0, :, 0] > 0).all()
    assert (maps[1].grad[0, 1, 1] == 0).all() and (maps[1].grad[0, 1, :, :, 1:] == 0).all()


def test_an_absent_roi_is_taught_to_be_nowhere() -> None:
    targets = torch.zeros(1, 2, 3, 3, 3)
    targets[0, 0, 0] = 1
    logits = torch.randn(1, 2, 3, 3, 3, requires_grad=True)
    loss = masked_loss(logits, targets, torch.tensor([[1, 2]]))
    loss.backward()
    assert logits.grad is not None and (logits.grad[0, 1] > 0).all()
    torch.testing.assert_close(loss, masked_loss(logits, targets, torch.tensor([[1, 1]])))


def test_a_roi_beyond_the_patch_is_taught_by_cross_entropy_alone() -> None:
    # A Dice ratio without truth would press the channel to zero: a small organ is then never found again.
    targets = torch.zeros(1, 1, 8, 8, 8)
    logits = torch.full((1, 1, 8, 8, 8), -9.0, requires_grad=True)
    loss = masked_loss(logits, targets, torch.tensor([[1]]))
    volume = 32 * 512 / 2000
    torch.testing.assert_close(loss, 512 * F.softplus(torch.tensor(-9.0)) / volume, rtol=1e-2, atol=0)
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) / volume)


@pytest.mark.parametrize("side", [2, 4])
def test_a_small_roi_pulls_as_strongly_as_a_large_one(side: int) -> None:
    # The channel is near zero everywhere, where Dice is flat: cross-entropy has to raise it, whatever the size.
    targets = torch.zeros(1, 1, 32, 32, 32)
    targets[0, 0, :side, :side, :side] = 1
    logits = torch.full_like(targets, -12.0).requires_grad_()
    masked_loss(logits, targets, torch.tensor([[1]])).backward()
    assert logits.grad is not None
    raising = -logits.grad[targets.bool()].sum()
    torch.testing.assert_close(
        raising, torch.tensor(1 / 32 * min(1.0, side**3 / (32**3 / 2000))), rtol=1e-2, atol=0
    )


def test_certain_negatives_by_hand() -> None:
    targets, states, exclusive = partly_known()
    logits = torch.randn(2, 3, 4, 4, 6)
    p, voxels = logits.sigmoid(), 4 * 4 * 6
    parts = []
    for r, n, negative in (
        (0, 0, p[1, 0][targets[1, 1]]),
        (1, 1, p[0, 1][targets[0, 0]]),
        (2, 0, p.new_zeros(0)),
    ):
        truth = targets[n, r].float()
        dice = (2 * (p[n, r] * truth).sum() + 1) / (p[n, r].sum() + truth.sum() + negative.sum() + 1)
        bce = F.binary_cross_entropy(p[n, r], truth) - torch.log(1 - negative).sum() / voxels
        parts.append(1 - dice + bce)
    torch.testing.assert_close(masked_loss(logits, targets, states, exclusive=exclusive), sum(parts) / 3)
    alone = masked_loss(logits[:1], targets[:1], states[:1], exclusive=exclusive)
    negative = -torch.log(1 - p[0, 1][targets[0, 0]]).sum() / (32 * voxels / 2000)
    without = masked_loss(logits[:1], targets[:1], states[:1])
    torch.testing.assert_close(alone, without + negative / 2)


def test_parts_of_a_batch_can_be_summed_elsewhere() -> None:
    targets, states, exclusive = partly_known()
    logits = torch.randn(2, 3, 4, 4, 6)
    seen: list[torch.Tensor] = []
    whole = masked_loss(logits, targets, states, exclusive=exclusive)
    for n in range(2):
        sample = slice(n, n + 1)
        masked_loss(logits[sample], targets[sample], states[sample], exclusive=exclusive,
                    total=lambda sums: seen.append(sums) or sums)  # fmt: skip
    together = masked_loss(
        logits[:1], targets[:1], states[:1], exclusive=exclusive, total=lambda _: sum(seen)
    )
    torch.testing.assert_close(together, whole)


def test_a_pseudo_label_weighs_less() -> None:
    torch.manual_seed(3)
    logits, targets = torch.randn(1, 2, 4, 4, 4), torch.randint(0, 2, (1, 2, 4, 4, 4)).float()
    both = torch.ones(1, 2, dtype=torch.int8)
    first, second = (masked_loss(logits[:, r : r + 1], targets[:, r : r + 1], both[:, :1]) for r in (0, 1))
    filled = masked_loss(logits, targets, torch.tensor([[1, 3]], dtype=torch.int8), pseudo_label_weight=0.25)
    # The smoothing of Dice is of one voxel, whatever the channel counts.
    torch.testing.assert_close(filled, (first + 0.25 * second) / 2, rtol=0.02, atol=0)
    plain = masked_loss(logits, targets, torch.tensor([[1, 3]], dtype=torch.int8))
    torch.testing.assert_close(plain, (first + second) / 2)


def test_within_a_batch_the_contoured_patient_leads() -> None:
    torch.manual_seed(4)
    logits = torch.randn(2, 1, 4, 4, 4, requires_grad=True)
    targets = torch.randint(0, 2, (1, 1, 4, 4, 4)).float().repeat(2, 1, 1, 1, 1)
    with torch.no_grad():
        logits[1] = logits[0]
    masked_loss(logits, targets, torch.tensor([[1], [3]]), pseudo_label_weight=0.2).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[1], 0.2 * logits.grad[0])


def test_a_large_roi_weighs_the_same_in_a_batch_without_it() -> None:
    # A lung: a tenth of the voxels. Where the batch shows none of it, each voxel presses as in a batch that shows it.
    lung = torch.zeros(1, 1, 10, 10, 10)
    lung[0, 0, :1] = 1
    usual = torch.tensor([0.1])

    def pressure(targets: torch.Tensor, **options: torch.Tensor) -> float:
        """Of cross-entropy on the channel, at a voxel without lung."""
        logits = torch.full_like(targets, -4.0).requires_grad_()
        masked_loss(logits, targets, torch.tensor([[1]]), dice_weight=0.0, **options).backward()
        assert logits.grad is not None
        return float(logits.grad[0, 0, -1, -1, -1])

    shown, unseen = pressure(lung, usual_shares=usual), pressure(torch.zeros_like(lung), usual_shares=usual)
    assert shown == pytest.approx(torch.sigmoid(torch.tensor(-4.0)).item() / 1000, rel=1e-4)
    assert unseen == pytest.approx(shown, rel=1e-4)
    assert pressure(torch.zeros_like(lung)) == pytest.approx(62.5 * shown, rel=1e-4)


def test_the_usual_share_of_a_small_roi_counts_where_little_of_it_is_seen() -> None:
    targets = torch.zeros(2, 2, 10, 10, 10)
    targets[0, :, 0, 0, :2] = 1  # 2 of 2000 voxels
    logits = torch.full_like(targets, -4.0).requires_grad_()
    shares = torch.tensor([0.01, 0.0])
    masked_loss(logits, targets, torch.ones(2, 2), usual_shares=shares, dice_weight=0.0).backward()
    assert logits.grad is not None
    background = logits.grad[1, :, 5, 5, 5]
    # The first counts as 20 voxels of 2000, the second as the 2 that are there; both ROIs weigh one half.
    expected = torch.sigmoid(torch.tensor(-4.0)) / 2 / 32 / torch.tensor([20.0, 2.0])
    torch.testing.assert_close(background, expected, rtol=1e-4, atol=0)
