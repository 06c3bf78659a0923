"""The network has the ancestor's parameter counts and takes any input size, norm, stride and depth."""

from __future__ import annotations

import pytest
import torch

from contour_ai.errors import ConfigError
from contour_ai.network import NetworkConfig, ResidualUNet3d, anisotropic_strides, build_network


@pytest.mark.parametrize(
    ("name", "base_filters", "count"),
    [
        ("resunet3d", 16, 1_704_454),
        ("resunet3d", 64, 27_222_022),
        ("deeper_resunet3d", 16, 6_868_870),
        ("deeper_resunet3d", 64, 109_811_206),
    ],
)
def test_parameter_counts_are_the_ancestors(name: str, base_filters: int, count: int) -> None:
    with torch.device("meta"):
        network = build_network(name, in_channels=1, out_channels=6, base_filters=base_filters)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("size", [(16, 16, 16), (9, 17, 5), (1, 8, 11)])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_any_input_size_gives_logits_of_that_size(size: tuple[int, int, int], norm: str) -> None:
    network = build_network("resunet3d", in_channels=2, out_channels=3, base_filters=4, norm=norm).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 2, *size)).shape == (1, 3, *size)


def test_padding_changes_nothing_where_the_size_fits() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=4).eval()
    x = torch.randn(1, 1, 12, 16, 16)
    padded = torch.cat([x, x[:, :, -1:].expand(-1, -1, 4, -1, -1)], dim=2)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network(padded)[:, :, :12])


def test_dropout_is_off_at_inference_and_on_in_training() -> None:
    torch.manual_seed(1)
    network = build_network("resunet3d", in_channels=1, out_channels=1, base_filters=4, norm="instance")
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_anisotropic_strides_and_kernels() -> None:
    config = NetworkConfig(
        name="custom",
        in_channels=1,
        out_channels=2,
        base_filters=4,
        levels=3,
        strides=((1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    network = ResidualUNet3d(config).eval()
    assert config.multiple_kij == (2, 4, 4)
    assert network.stem.conv1.kernel_size == (1, 3, 3)
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 5, 12, 10)).shape == (1, 2, 5, 12, 10)


def test_anisotropic_strides_follow_the_spacing() -> None:
    assert anisotropic_strides((5.0, 1.0, 1.0), 4) == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert anisotropic_strides((3.0, 2.0, 2.0), 3) == ((2, 2, 2), (2, 2, 2))


def test_deep_supervision_gives_coarser_maps_in_training_only() -> None:
    network = build_network(
        "resunet3d", in_channels=1, out_channels=2, base_filters=4, deep_supervision=2, dropout=0.0
    )
    maps = network(torch.randn(1, 1, 9, 16, 14))
    assert [tuple(m.shape[2:]) for m in maps] == [(9, 16, 14), (5, 8, 7), (3, 4, 4)]
    network.eval()
    assert isinstance(network(torch.randn(1, 1, 9, 16, 14)), torch.Tensor)


def test_width_can_be_limited() -> None:
    config = NetworkConfig(
        name="custom", in_channels=1, out_channels=1, base_filters=32, levels=6, max_filters=320
    )
    assert config.filters == (32, 64, 128, 256, 320, 320)


def test_channels_last_computes_the_same_forwards_and_backwards() -> None:
    torch.manual_seed(2)
    network = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=4, dropout=0.0)
    other = build_network(network.config).to(memory_format=torch.channels_last_3d)
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 1, 9, 10, 16)
    for net in (network, other):
        net(x).square().mean().backward()
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_the_gradient_comes_into_the_last_layer_as_channels_last() -> None:
    network = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=4)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    seen: list[bool] = []

    def look(layer: torch.nn.Module, gradients: tuple[torch.Tensor, ...]) -> None:
        seen.append(gradients[0].is_contiguous(memory_format=torch.channels_last_3d))

    network.head.register_full_backward_pre_hook(look)
    for size in ((16, 16, 16), (9, 10, 16)):  # the second is padded, and its logits are cropped
        logits = network(torch.randn(1, 1, *size))
        logits.backward(torch.ones(logits.shape))  # as a loss in another layout hands it back
    assert seen == [True, True]


@pytest.mark.parametrize("slices", [8, 16, 24])
def test_bf16_gradients_are_those_of_fp32_down_to_single_slices(slices: int) -> None:
    torch.manual_seed(4)
    network = build_network("resunet3d", in_channels=1, out_channels=2, base_filters=8, dropout=0.0)
    network.to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 1, slices, 24, 24).contiguous(memory_format=torch.channels_last_3d)

    def gradients(enabled: bool) -> list[torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = network(x)
        # Memory that is taken and given back full of NaN shows a gradient that was never written.
        junk = [torch.full((1000 * n,), float("nan")) for n in range(60)]
        del junk
        logits.float().square().mean().backward()
        return [p.grad.clone() for p in network.parameters() if p.ndim > 1]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        assert float((a - b).norm()) < 0.5 * float(a.norm())  # what bf16 rounds off; memory would be far away


def test_a_preset_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"No such network.\n  found: unet\n  expected: resunet3d"):
        build_network("unet", in_channels=1, out_channels=1)


def test_an_option_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'network.dropout'\?"):
        build_network("resunet3d", in_channels=1, out_channels=1, drop_out=0.1)


def test_strides_that_do_not_fit_the_depth_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"strides do not fit its 4 levels"):
        build_network("resunet3d", in_channels=1, out_channels=1, strides=((1, 2, 2),))
