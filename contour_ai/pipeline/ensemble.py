"""Several models as one: their probabilities are averaged, as of the parts of a cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from contour_ai.bundle import MadeFrom, ModelBundle
from contour_ai.errors import ConfigError
from contour_ai.pipeline._predict import LoadedModel, LoadingModel

LEAST_TRUSTED_FIRST = ("phantom", "research")
"""Kinds of models: an ensemble is of the least trusted kind among its members."""


def begin_ensemble(bundles: Sequence[ModelBundle], device: str = "auto") -> LoadingModel:
    """As `load_ensemble`, in a thread of its own.

    Raises:
        ConfigError: the models differ in their ROIs or in how they want their images.
    """
    return LoadingModel(as_one(bundles), lambda: load_ensemble(bundles, device))


def load_ensemble(bundles: Sequence[ModelBundle], device: str = "auto") -> LoadedModel:
    """One model that averages several; a single bundle is just loaded.

    ROIs, post-processing, reference ranges and the second reader are the first model's; the others may have their ROIs
    in another order.

    Raises:
        ConfigError: no such device; the models differ in their ROIs or in how they want their images.
        ModelError: weights cannot be used.
    """
    from contour_ai.inference import Average, autocast_dtype, choose_device
    from contour_ai.second_reading import SecondNetwork

    described = as_one(bundles)
    chosen = choose_device(device)
    networks = [bundle.build_network(chosen) for bundle in bundles]
    autocast = autocast_dtype(chosen)
    second = SecondNetwork.of(bundles[0], chosen, autocast)
    if len(bundles) == 1:
        return LoadedModel(
            bundle=described, network=networks[0], device=chosen, autocast=autocast, second=second
        )
    channels = [[bundle.roi_names.index(roi) for roi in described.roi_names] for bundle in bundles]
    return LoadedModel(
        bundle=described, network=Average(networks, channels), device=chosen, autocast=autocast, second=second
    )


def as_one(bundles: Sequence[ModelBundle]) -> ModelBundle:
    """The bundle itself, or the description of several that fit together.

    Raises:
        ConfigError: the models differ in their ROIs or in how they want their images.
    """
    for other in bundles[1:]:
        _refuse_misfit(bundles[0], other)
    return bundles[0] if len(bundles) == 1 else describe_ensemble(bundles)


def describe_ensemble(bundles: Sequence[ModelBundle]) -> ModelBundle:
    """The first bundle, said to be an ensemble, with a hash of all weights."""
    members = [f"{bundle.name} {bundle.version} {bundle.weights_sha256}" for bundle in bundles]
    temperatures = [bundle.inference_fingerprint for bundle in bundles]
    first = bundles[0]
    return replace(
        first,
        name=f"{first.name[:60]}-ensemble",
        kind=min((bundle.kind for bundle in bundles), key=LEAST_TRUSTED_FIRST.index),
        default=False,
        description=f"The average of {len(bundles)} models",
        data=replace(first.data, seen_series=tuple(s for b in bundles for s in b.data.seen_series)),
        provenance=MadeFrom(ensemble_of=tuple(members)),
        weights_sha256=hashlib.sha256("\n".join([*members, *temperatures]).encode()).hexdigest(),
    )


def _refuse_misfit(first: ModelBundle, other: ModelBundle) -> None:
    for what, mine, theirs in (
        ("ROIs", sorted(first.roi_names), sorted(other.roi_names)),
        ("preprocessing", first.preprocess, other.preprocess),
    ):
        if mine != theirs:
            raise ConfigError(
                f"These models cannot be averaged: they differ in their {what}.",
                where=f"{first.folder} and {other.folder}",
                found=theirs,
                expected=mine,
                fix="average models of one training configuration, as of the parts of a cross-validation",
            )
