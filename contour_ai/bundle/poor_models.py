"""What makes a model poor, as far as it was measured: ROIs of low Dice, few epochs, few patients."""

from __future__ import annotations

from collections.abc import Mapping

from contour_ai.bundle.description import ModelBundle

POOR_DICE = 0.5
"""A ROI below this in validation is mostly drawn where it is not."""
FEW_PATIENTS = 10
"""A ROI that fewer training patients have is known in few shapes."""
HARDLY_BEGUN_EPOCHS = 5.0
"""Fewer passes over the training patients leave a network that has hardly begun."""


def poor_rois(bundle: ModelBundle) -> Mapping[str, float]:
    """{ROI: Dice} of those with a measured mean Dice below 0.5, on the patients that validated."""
    return {roi: dice for roi, dice in bundle.results.dice.items() if dice < POOR_DICE}


def epochs_of(bundle: ModelBundle) -> float | None:
    """How often the training saw each patient; None where the bundle does not say."""
    training, data = bundle.training, bundle.data
    patients = data.training_patients + data.synthetic_patients
    if not (training.steps and training.samples_a_step and patients):
        return None
    return training.steps * training.samples_a_step / patients


def weaknesses(bundle: ModelBundle) -> list[str]:
    """Sentences on what is poor about a model, the worst first; none where nothing is known to be."""
    found = []
    if poor := poor_rois(bundle):
        listing = ", ".join(f"{roi} {dice:.3f}" for roi, dice in poor.items())
        found.append(f"Dice below {POOR_DICE:g} in validation: {listing}; `predict` leaves these ROIs out")
    epochs = epochs_of(bundle)
    if epochs is not None and epochs < HARDLY_BEGUN_EPOCHS and not bundle.training.started_from:
        found.append(
            f"trained for {epochs:.1f} epochs, fewer than {HARDLY_BEGUN_EPOCHS:g}: a longer training will help"
        )
    few = {roi: seen.patients for roi, seen in bundle.data.rois.items() if 0 < seen.patients < FEW_PATIENTS}
    if few:
        listing = ", ".join(f"{roi} {number}" for roi, number in few.items())
        found.append(f"fewer than {FEW_PATIENTS} training patients have: {listing}")
    return found
