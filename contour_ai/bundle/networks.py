"""Networks from the weights files of a bundle; torch is imported only to build one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contour_ai.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from contour_ai.network import ResidualUNet3d
    from contour_ai.network_config import NetworkConfig


def network_of(content: bytes, config: NetworkConfig, where: Path, model: str) -> ResidualUNet3d:
    """The network of a weights file in fp32, on the CPU.

    Args:
        content: of the file, safetensors.
        config: what `model.yaml` says that it is.
        where: the file, for messages.
        model: name of the model, for messages.

    Raises:
        ModelError: the weights are damaged or of another network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from contour_ai.bundle.reading import damaged
    from contour_ai.network import build_network

    try:
        weights = load(content)
    except SafetensorError as error:
        raise damaged(model, where, f"not a safetensors file ({error})") from error
    with torch.device("meta"):
        network = build_network(config)
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    if wanted != found:
        different = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        raise ModelError(
            "The weights are of another network than model.yaml describes.",
            where=where,
            found=f"{len(different)} parameters differ, the first is {different[0]}",
            fix="get the bundle again, as a whole",
        )
    full = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    broken = [name for name, value in full.items() if not bool(torch.isfinite(value).all())]
    if broken:  # such a network finds nothing anywhere, without a word
        raise damaged(
            model, where, f"numbers that are not finite (NaN or infinity) in {', '.join(broken[:3])}"
        )
    network.load_state_dict(full, assign=True)
    return network
