"""The network: a residual U-Net in three dimensions whose depth, width, norm and strides are numbers.

Two presets are the ancestor project's networks: `resunet3d` with 4 levels and `deeper_resunet3d` with 5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contour_ai.network_config import LEVELS_OF_PRESET, NetworkConfig, anisotropic_strides, preset

__all__ = [
    "LEVELS_OF_PRESET",
    "NetworkConfig",
    "ResidualBlock",
    "ResidualUNet3d",
    "anisotropic_strides",
    "build_network",
    "preset",
]

Triple = tuple[int, int, int]

FIRST_LOGIT = -4.0
"""Where fresh networks begin: nearly every voxel belongs to no ROI. Learning that from the data would first reduce the
probabilities of small ROIs."""


def build_network(
    name_or_config: str | NetworkConfig,
    *,
    in_channels: int | None = None,
    out_channels: int | None = None,
    base_filters: int = 16,
    **options: object,
) -> ResidualUNet3d:
    """A network with fresh weights, from a preset's name or from a whole configuration.

    Args:
        name_or_config: `resunet3d`, `deeper_resunet3d`, or a `NetworkConfig` (then no other arguments).
        in_channels: image channels.
        out_channels: ROIs.
        base_filters: feature channels at full resolution.
        options: any other field of `NetworkConfig`.

    Raises:
        ConfigError: no such preset, or values that do not fit.
        TypeError: arguments that are missing or must not be there.
    """
    if isinstance(name_or_config, NetworkConfig):
        if in_channels is not None or out_channels is not None or options:
            raise TypeError("A NetworkConfig says everything: give no other arguments with it.")
        return ResidualUNet3d(name_or_config)
    if in_channels is None or out_channels is None:
        raise TypeError("A preset needs in_channels and out_channels.")
    config = preset(
        name_or_config,
        in_channels=in_channels,
        out_channels=out_channels,
        base_filters=base_filters,
        **options,
    )
    return ResidualUNet3d(config)


class ResidualUNet3d(nn.Module):
    """Pre-activation residual U-Net: (N, C, K, I, J) image to (N, R, K, I, J) logits, for any K, I, J.

    Feature channels double at each level down. The input is padded at its far ends (repeating the last
    voxel) to what the strides divide, and the logits are cropped back.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        filters, strides, kernels = config.filters, config.level_strides, config.level_kernels

        self.stem = Stem(config, config.in_channels, filters[0], kernels[0])
        self.encoder = nn.ModuleList(
            ResidualBlock(config, filters[n], filters[n + 1], kernels[n + 1], strides[n])
            for n in range(config.levels - 1)
        )
        self.decoder = nn.ModuleList(
            UpBlock(config, filters[n + 1], filters[n], kernels[n], strides[n])
            for n in reversed(range(config.levels - 1))
        )
        self.head = nn.Conv3d(filters[0], config.out_channels, 1)
        self.deep_heads = nn.ModuleList(
            nn.Conv3d(filters[n + 1], config.out_channels, 1) for n in range(config.deep_supervision)
        )
        for head in (self.head, *self.deep_heads):
            nn.init.constant_(head.bias, FIRST_LOGIT)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits; while training with deep supervision a list of them, finest first.

        A coarser map's voxel m covers the full-resolution voxels m * s to m * s + s - 1 along each axis, s the
        product of the strides, so that its size is that of the input divided by s, rounded up.
        """
        size = tuple(x.shape[2:])
        x = self._padded(x)
        x = self.stem(x)  # (N, F, K, I, J)
        skips = []
        for down in self.encoder:
            skips.append(x)
            x = down(x)  # (N, 2F, K/2, I/2, J/2) and so on
        features = []
        for up in self.decoder:
            x = up(x, skips.pop())  # back to (N, F, K, I, J)
            features.append(x)
        logits = self._cropped(self.head(x), size)  # (N, R, K, I, J)
        if not (self.training and self.config.deep_supervision):
            return logits
        maps = [logits]
        for head, strides, feature in zip(
            self.deep_heads, self._cumulative_strides(), features[-2::-1], strict=False
        ):
            coarse = tuple(-(-n // s) for n, s in zip(size, strides, strict=True))
            maps.append(self._cropped(head(feature), coarse))  # (N, R, K/s, I/s, J/s)
        return maps

    def _padded(self, x: Tensor) -> Tensor:
        extra = [-n % m for n, m in zip(x.shape[2:], self.config.multiple_kij, strict=True)]
        if not any(extra):
            return x
        # F.pad counts from the last axis backwards; replicating keeps air air and tissue tissue beyond the edge.
        x = F.pad(x, (0, extra[2], 0, extra[1], 0, extra[0]), mode="replicate")
        return x.contiguous(memory_format=torch.channels_last_3d) if _is_channels_last(self) else x

    def _cropped(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        if logits.requires_grad and logits.device.type == "cpu" and _is_channels_last(self):
            # A loss hands back a gradient in the layout of its own arithmetic; oneDNN then leaves channels_last for
            # the whole backward pass, which is several times slower.
            logits.register_hook(  # type: ignore[no-untyped-call]
                _gradient_channels_last
            )
        if tuple(logits.shape[2:]) == size:
            return logits
        return logits[:, :, : size[0], : size[1], : size[2]]

    def _cumulative_strides(self) -> list[Triple]:
        total, k, i, j = [], 1, 1, 1
        for stride in self.config.level_strides:
            k, i, j = k * stride[0], i * stride[1], j * stride[2]
            total.append((k, i, j))
        return total


class ResidualBlock(nn.Module):
    """(norm → leaky ReLU → dropout → convolution) twice, plus a convolved and normed shortcut.

    The stride, where there is one, is in the first convolution and in the shortcut.
    """

    def __init__(
        self, config: NetworkConfig, inputs: int, outputs: int, kernel: Triple, stride: Triple = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.norm1 = _norm(config, inputs)
        self.conv1 = _conv(inputs, outputs, kernel, stride)
        self.norm2 = _norm(config, outputs)
        self.conv2 = _conv(outputs, outputs, kernel)
        self.shortcut = nn.Sequential(_conv(inputs, outputs, kernel, stride), _norm(config, outputs))
        self.drop = _dropout(config)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.drop(_activate(self.norm1(x))))  # (N, outputs, K/s, I/s, J/s)
        y = self.conv2(self.drop(_activate(self.norm2(y))))
        return y + self.shortcut(x)


class Stem(nn.Module):
    """The first block: convolution → norm → leaky ReLU → dropout → convolution, plus a convolved, normed shortcut."""

    def __init__(self, config: NetworkConfig, inputs: int, outputs: int, kernel: Triple) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, kernel)
        self.norm = _norm(config, outputs)
        self.conv2 = _conv(outputs, outputs, kernel)
        self.shortcut = nn.Sequential(_conv(inputs, outputs, kernel), _norm(config, outputs))
        self.drop = _dropout(config)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)  # (N, F, K, I, J)
        y = self.conv2(self.drop(_activate(self.norm(y))))
        return y + self.shortcut(x)


class UpBlock(nn.Module):
    """Transposed convolution up, concatenation with the skip, a 1 x 1 x 1 convolution halving, a residual block."""

    def __init__(
        self, config: NetworkConfig, inputs: int, outputs: int, kernel: Triple, stride: Triple
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(inputs, outputs, stride, stride)
        self.merge = nn.Conv3d(2 * outputs, outputs, 1)
        self.block = ResidualBlock(config, outputs, outputs, kernel)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat([self.up(x), skip], dim=1)  # (N, 2 * outputs, K*s, I*s, J*s)
        return self.block(self.merge(x))  # (N, outputs, K*s, I*s, J*s)


class InstanceNorm(nn.Module):
    """Instance normalisation that keeps channels_last: batch normalisation of each sample by its own statistics.

    `nn.InstanceNorm3d` copies to contiguous, and `nn.GroupNorm` with a group a channel is two to three times
    slower backwards on the CPU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            F.batch_norm(sample, None, None, self.weight, self.bias, training=True)
            for sample in torch.split(x, 1)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class Conv3d(nn.Conv3d):
    """A convolution that is fp32 where oneDNN's bf16 one has a wrong weight gradient: two slices, on the CPU.

    Seen with torch 2.13 on avx512_bf16: kernel 3, padding 1, exactly two slices give uninitialised memory as gradient
    (tests/test_network.py). Such layers are so small that fp32 costs nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] == 2 and x.device.type == "cpu" and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def _conv(inputs: int, outputs: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> nn.Conv3d:
    k, i, j = (n // 2 for n in kernel)
    return Conv3d(inputs, outputs, kernel, stride, (k, i, j))


def _norm(config: NetworkConfig, channels: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm3d(channels)
    return InstanceNorm(channels)


def _dropout(config: NetworkConfig) -> nn.Module:
    return nn.Dropout(config.dropout) if config.dropout > 0 else nn.Identity()


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, inplace=True)


def _is_channels_last(network: ResidualUNet3d) -> bool:
    # The stem's first kernel may have one input channel, which fits both layouts; its second never does.
    return network.stem.conv2.weight.is_contiguous(memory_format=torch.channels_last_3d)


def _gradient_channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last_3d)
