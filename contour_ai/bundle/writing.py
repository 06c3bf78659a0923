"""Writes bundles as a whole or not at all, and reads them back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.bundle.description import CARD_FILE, DESCRIPTION_FILE, WEIGHTS_FILE, ModelBundle
from contour_ai.bundle.reading import FORMAT, load_bundle
from contour_ai.bundle.records import results_mapping, without_defaults
from contour_ai.bundle.second_reader import SECOND_READER_FILE, SecondReader
from contour_ai.files import atomic_file, atomic_folder, update_manifest, write_text
from contour_ai.settings import to_mapping, to_yaml

if TYPE_CHECKING:
    import torch


def save_bundle(
    folder: Path,
    bundle: ModelBundle,
    state_dict: Mapping[str, torch.Tensor],
    *,
    model_card: str,
    overwrite: bool = False,
    second_reader: Mapping[str, torch.Tensor] | None = None,
) -> ModelBundle:
    """Writes a bundle, as a whole or not at all, and reads it back.

    Convolution weights are stored as fp16 (where their values allow it), the small rest (norms with their statistics,
    biases) as fp32, which costs nothing and avoids underflow of variances.

    Args:
        folder: where to; its name need not be the bundle's.
        bundle: its description; `folder` and `weights_sha256` in it are ignored.
        state_dict: the network's parameters and buffers.
        model_card: text of MODEL_CARD.md.
        overwrite: replace an existing folder; one in which somebody changed or added something gets another name.
        second_reader: parameters and buffers of the second reader that `bundle` describes; None where it has none.

    Returns:
        The bundle as it now lies in `folder`.

    Raises:
        OutputError: `folder` exists or cannot be written.
        ModelError: what was written does not read back.
    """
    weights = weights_bytes(state_dict)
    bundle = replace(bundle, weights_sha256=hashlib.sha256(weights).hexdigest())
    second = None if second_reader is None else weights_bytes(second_reader)
    bundle = replace(bundle, second_reader=_with_digest(bundle.second_reader, second))
    with atomic_folder(folder, overwrite=overwrite, set_aside=overwrite) as temporary:
        (temporary / WEIGHTS_FILE).write_bytes(weights)
        if second is not None:
            (temporary / SECOND_READER_FILE).write_bytes(second)
        write_text(temporary / DESCRIPTION_FILE, describe(bundle))
        write_text(temporary / CARD_FILE, model_card)
        written = load_bundle(temporary)
        written.build_network()
        written.build_second_reader()
    return load_bundle(folder)


def add_second_reader(
    bundle: ModelBundle, state_dict: Mapping[str, torch.Tensor], *, model_card: Callable[[ModelBundle], str]
) -> ModelBundle:
    """Writes the second reader that `bundle` describes into its folder; the weights of the model stay.

    Raises:
        OutputError: the folder cannot be written.
    """
    content = weights_bytes(state_dict)
    bundle = replace(bundle, second_reader=_with_digest(bundle.second_reader, content))
    with atomic_file(bundle.second_reader_path, overwrite=True) as path:
        path.write_bytes(content)
    update_manifest(bundle.folder, SECOND_READER_FILE)
    return update_bundle(bundle, model_card=model_card(bundle))


def weights_bytes(state_dict: Mapping[str, torch.Tensor]) -> bytes:
    """A weights file: convolutions in fp16, the small rest in fp32."""
    from safetensors.torch import save

    content: bytes = save({name: _stored(value) for name, value in state_dict.items()})
    return content


def _with_digest(second: SecondReader | None, content: bytes | None) -> SecondReader | None:
    """The second reader of these weights; a description without weights describes nothing."""
    if second is None or content is None:
        return None
    return replace(second, weights_sha256=hashlib.sha256(content).hexdigest())


def update_bundle(bundle: ModelBundle, *, model_card: str) -> ModelBundle:
    """Writes the description and the card of a bundle that lies in its folder anew; the weights stay.

    Raises:
        OutputError: the folder cannot be written.
    """
    texts = {CARD_FILE: model_card, DESCRIPTION_FILE: describe(bundle)}
    for name, text in texts.items():
        with atomic_file(bundle.folder / name, overwrite=True) as path:
            write_text(path, text)
    update_manifest(bundle.folder, *texts)
    return load_bundle(bundle.folder)


def describe(bundle: ModelBundle) -> str:
    """The text of `model.yaml`."""
    mapping = to_mapping(replace(bundle, folder=Path()))
    del mapping["folder"]
    for key in ("second_reader", "own_contour_model"):  # as it was before there were any
        if mapping[key] is None:
            del mapping[key]
    for key in ("contour_model", "own_contour_model"):
        if mapping.get(key) and mapping[key]["relations"] is None:
            del mapping[key]["relations"]
    for key in ("data", "training", "provenance"):
        mapping[key] = without_defaults(getattr(bundle, key))
    mapping["results"] = results_mapping(bundle.results)
    for rule in mapping["postprocess"].values():
        if not rule["several_parts"]:
            del rule["several_parts"]
    for roi in mapping["ranges"]["rois"].values() if mapping["ranges"] else ():
        if roi["absent_share"] is None:
            del roi["absent_share"]
    return to_yaml({"format": FORMAT, **mapping})


def _stored(value: torch.Tensor) -> torch.Tensor:
    import torch

    value = value.detach().cpu().contiguous()
    if value.is_floating_point() and value.ndim > 1:
        half = value.to(torch.float16)
        return half if bool(torch.isfinite(half).all()) else value.float()
    return value
