"""Rules and temperatures chosen on held-back patients, by hand and on the small archive of the calibration's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_calibration import ROI, SPACING, archive, bundle  # noqa: F401 - fixtures

from contour_ai.bundle import CARD_FILE, ModelBundle, RoiCalibration, RoiPostprocess, load_bundle, save_bundle
from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError, InputError
from contour_ai.pipeline.calibration import CalibrationOptions
from contour_ai.pipeline.tuning import CANDIDATES, FEWEST_TO_CHOOSE, GAIN, USUAL, chosen_rule, tune, tuned
from contour_ai.training.cache import Case


def case_with_ball(seed: int) -> tuple[Case, np.ndarray]:
    """A ball of 300 HU in a body of 0 HU, with a loose piece of the same density that does not belong to it."""
    dice = np.random.default_rng(seed)
    k, i, j = np.indices((12, 40, 48))
    hu = np.full((12, 40, 48), -1024, np.int16)
    hu[(i - 20) ** 2 + (j - 24) ** 2 < 18**2] = 0
    ball = (k - 6) ** 2 + (i - 20) ** 2 + (j - 20 - dice.integers(3)) ** 2 < 4**2
    hu[ball] = 300
    hu[5:7, 19:22, 36:39] = 300
    return Case(
        patient_id=f"p{seed}",
        image=hu,
        labels=ball.astype(np.uint8),
        rois=(ROI,),
        presence=(True,),
        spacing_mm_kij=SPACING,
    ), ball


REASON = "drawn so"
ANY_PARTS = {ROI: RoiPostprocess(several_parts=REASON)}


def test_an_organ_of_one_piece_keeps_one_part_whatever_it_gains(bundle: ModelBundle) -> None:  # noqa: F811
    cases = [case_with_ball(seed)[0] for seed in range(6)]
    for case in cases:
        case.bits[np.asarray(case.hu) == 300] = 1  # the loose piece is contoured, too
    network = bundle.build_network(calibrated=False)
    done = tuned(bundle, network, cases, "cpu")
    assert done.postprocess == {ROI: RoiPostprocess(largest_component=True)}
    assert not done.results.after_the_network.rules, "nothing was gained by choice"
    done = tuned(replace(bundle, postprocess=ANY_PARTS), network, cases, "cpu")
    assert not done.postprocess_of(ROI).largest_component, "the model gives a reason"


def test_rules_that_gain_are_taken(bundle: ModelBundle) -> None:  # noqa: F811
    bundle = replace(bundle, postprocess=ANY_PARTS)
    cases = [case_with_ball(seed)[0] for seed in range(6)]
    network = bundle.build_network(calibrated=False)
    done = tuned(bundle, network, cases, "cpu", compare=True)
    assert done.postprocess == {ROI: RoiPostprocess(largest_component=True)}
    rules = done.results.after_the_network
    assert rules.patients == 6
    assert rules.rules[ROI].dice_with == 1 > rules.rules[ROI].dice_without
    found = done.calibration[ROI]
    assert found.patients == 6 and 0 <= found.error <= 1
    # The network looks the same in a mirror.
    assert done.results.other_runs["mirrored"].difference == {ROI: 0}
    assert done.results.other_runs["mirrored"].patients == 6
    mirroring = replace(done, inference=replace(done.inference, mirror=True))
    turned = tuned(mirroring, network, cases, "cpu", compare=True)
    assert turned.results.other_runs["not mirrored"].difference == {ROI: 0}
    assert "mirrored" not in turned.results.other_runs
    if "fp32" in done.results.other_runs:
        assert done.results.other_runs["fp32"].largest_difference < 0.05


class Said(torch.nn.Module):
    """A network that says what the patient's HU say: the logit of 500 HU is 0, of 700 HU is 2."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image * 400 + 400 - 500) / 100


def case_with_shell(seed: int, *, together: bool) -> Case:
    """A sure core in a shell that belongs to the ROI in two voxels of five, or as a whole in two patients of five."""
    dice = np.random.default_rng(seed)
    k, i, j = np.indices((12, 40, 48))
    r = np.sqrt((k - 6) ** 2 + (i - 20) ** 2 + (j - 24) ** 2)
    hu = np.full(r.shape, -1024, np.int16)
    hu[(i - 20) ** 2 + (j - 24) ** 2 < 18**2] = 0
    hu[r < 5] = 455  # of 0.39
    hu[r < 3] = 800
    truth = (r < 3) | (r < 5) & ((seed % 5 < 2) if together else (dice.random(r.shape) < 0.4))
    return Case(
        patient_id=f"p{seed}",
        image=hu,
        labels=truth.astype(np.uint8),
        rois=(ROI,),
        presence=(True,),
        spacing_mm_kij=SPACING,
    )


def test_the_contour_of_the_best_expected_dice_is_taken_where_it_is_the_best(bundle: ModelBundle) -> None:  # noqa: F811
    windows = replace(bundle.preprocess, windows_hu=((0.0, 800.0),))
    said = replace(bundle, preprocess=windows, postprocess=ANY_PARTS)
    done = tuned(said, Said(), [case_with_shell(seed, together=False) for seed in range(10)], "cpu")
    rule = done.postprocess[ROI]
    gain = done.results.after_the_network.rules[ROI]
    assert gain.dice_with > gain.dice_without + 0.1
    assert rule == RoiPostprocess(expected_dice=True, several_parts=REASON)
    assert (gain.better_in, gain.worse_in) == (10, 0)
    # Where the shell is there as a whole or not at all, what is expected of its voxels says nothing of the Dice.
    done = tuned(said, Said(), [case_with_shell(seed, together=True) for seed in range(10)], "cpu")
    assert done.postprocess == ANY_PARTS


def test_too_few_patients_change_nothing(bundle: ModelBundle) -> None:  # noqa: F811
    cases = [case_with_ball(seed)[0] for seed in range(FEWEST_TO_CHOOSE - 1)]
    kept = replace(bundle, postprocess={ROI: RoiPostprocess(min_volume_cm3=0.5)})
    done = tuned(kept, bundle.build_network(), cases, "cpu")
    assert done.postprocess == kept.postprocess and not done.calibration
    # A threshold without its temperature would be another contour.
    kept = replace(
        bundle,
        postprocess={ROI: RoiPostprocess(threshold=0.4)},
        calibration={ROI: RoiCalibration(temperature=2.0, patients=9, error_before=0.2, error=0.1)},
    )
    done = tuned(kept, bundle.build_network(), cases, "cpu")
    assert done.postprocess == kept.postprocess and done.calibration == kept.calibration


def test_a_roi_that_is_not_contoured_does_not_count(bundle: ModelBundle) -> None:  # noqa: F811
    cases = [replace(case_with_ball(seed)[0], presence=(seed == 0,)) for seed in range(8)]
    assert not tuned(bundle, bundle.build_network(), cases, "cpu").calibration


def test_the_choice_by_hand() -> None:
    dice = np.full((6, len(CANDIDATES)), 0.8)
    assert chosen_rule(dice) == USUAL
    both = CANDIDATES.index(RoiPostprocess(largest_component=True, expected_dice=True))
    dice[:, both] += GAIN / 2
    assert chosen_rule(dice) == USUAL
    dice[:, both] += GAIN
    assert chosen_rule(dice) == both
    dice[:, 1] = dice[:, both] - GAIN / 4
    assert chosen_rule(dice) == 1, "the simpler of two that are nearly equal"


def test_temperatures_scale_logits_and_move_no_contour(
    bundle: ModelBundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    cases = [case_with_ball(seed)[0] for seed in range(6)]
    done = tuned(bundle, bundle.build_network(calibrated=False), cases, "cpu")
    temperature = done.calibration[ROI].temperature
    assert temperature != 1
    again = save_bundle(
        tmp_path / "again", done, bundle.build_network(calibrated=False).state_dict(), model_card="For tests."
    )
    assert again.calibration == done.calibration
    image = torch.randn(1, 1, 8, 16, 16)
    raw, scaled = again.build_network(calibrated=False)(image), again.build_network()(image)
    torch.testing.assert_close(scaled * temperature, raw, rtol=1e-4, atol=1e-4)


def test_a_misnamed_or_impossible_calibration_is_refused(bundle: ModelBundle) -> None:  # noqa: F811
    path = bundle.folder / "model.yaml"
    entry = "{temperature: 2.0, patients: 6, error_before: 0.1, error: 0.05}"
    text = path.read_text(encoding="utf-8")
    for wrong in (f"{{Brain: {entry}}}", f"{{{ROI}: {entry.replace('2.0', '0.0')}}}"):
        path.write_text(text.replace("calibration: {}", f"calibration: {wrong}"), encoding="utf-8")
        with pytest.raises(ConfigError):
            load_bundle(bundle.folder)


def test_the_command_writes_description_and_card(
    archive: Path,  # noqa: F811
    bundle: ModelBundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    called = CliRunner().invoke(
        cli, ["models", "tune", str(bundle.folder), str(archive), "--cache", str(tmp_path / "cache")]
    )
    assert called.exit_code == 0, called.output
    assert f"{ROI}: threshold" in called.output
    done = load_bundle(bundle.folder)
    assert ROI in done.calibration and done.weights_sha256 == bundle.weights_sha256
    card = (bundle.folder / CARD_FILE).read_text(encoding="utf-8")
    for heading in ("## After the network", "## Run in another way", "## Probabilities"):
        assert heading in card
    path = bundle.folder / "model.yaml"
    text = path.read_text(encoding="utf-8").replace(
        "notes: {}", "notes:\n  Limits: |\n    One line.\n    Another.\n"
    )
    path.write_text(text, encoding="utf-8")
    assert CliRunner().invoke(cli, ["models", "card", str(bundle.folder)]).exit_code == 0
    card = (bundle.folder / CARD_FILE).read_text(encoding="utf-8")
    assert "## Limits\n\nOne line.\nAnother.\n" in card and "## Probabilities" in card
    called = CliRunner().invoke(
        cli, ["models", "ranges", str(bundle.folder), str(archive), "--cache", str(tmp_path / "cache")]
    )
    assert called.exit_code == 0, called.output
    card = (bundle.folder / CARD_FILE).read_text(encoding="utf-8")
    assert (
        "## Reference ranges\n\nLimits of the flags, from 8 training patients" in card and "## Limits" in card
    )


def test_an_archive_without_held_back_patients_is_refused(
    archive: Path,  # noqa: F811
    bundle: ModelBundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    splits = tmp_path / "splits.json"
    names = ", ".join(f'"p{n}"' for n in range(8))
    splits.write_text(f'{{"training": [{names}], "validation": []}}', encoding="utf-8")
    with pytest.raises(InputError, match="held back"):
        tune(bundle, archive, CalibrationOptions(splits=splits, cache_dir=tmp_path / "cache"))
