"""Models averaged as one: by hand, whatever the order of their ROIs, and refused where they do not belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_patients import write_patient

from contour_ai.bundle import ModelBundle, load_bundle, save_bundle
from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.errors import ConfigError
from contour_ai.inference import Average
from contour_ai.network import build_network
from contour_ai.network_config import NetworkConfig
from contour_ai.pipeline._predict import run_network
from contour_ai.pipeline.ensemble import load_ensemble
from contour_ai.preprocess import PreprocessSettings, prepare
from contour_ai.structures import roi_info

CONFIG = NetworkConfig(name="custom", in_channels=1, out_channels=2, base_filters=2, levels=2, dropout=0.0)
SETTINGS = PreprocessSettings(spacing_mm_kij=(6.0, 5.0, 5.0))


def bundle_of(
    folder: Path, seed: int, rois: tuple[str, ...] = ("Brainstem", "Larynx"), **changes: object
) -> ModelBundle:
    torch.manual_seed(seed)
    network = build_network(CONFIG)
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([0.5, -0.5]))
    plain = ModelBundle(
        folder=Path(),
        name=f"m{seed}",
        version="1.0",
        kind="phantom",
        rois=tuple(map(roi_info, rois)),
        preprocess=SETTINGS,
        network=network.config,
    )
    bundle = replace(plain, **changes)  # type: ignore[arg-type]
    return save_bundle(
        folder / f"{bundle.name}-{seed}", bundle, network.state_dict(), model_card="For tests."
    )


def logits_of(image: torch.Tensor, bundle: ModelBundle) -> np.ndarray:
    with torch.inference_mode():
        return bundle.build_network()(image)[0].numpy()


def test_the_mean_probability_by_hand(tmp_path: Path) -> None:
    a, b = bundle_of(tmp_path, 1), bundle_of(tmp_path, 2, ("Larynx", "Brainstem"))
    image = torch.randn(1, 1, 8, 12, 12)
    with torch.inference_mode():
        found = load_ensemble([a, b], "cpu").network(image)[0].numpy()
    ours, theirs = logits_of(image, a), logits_of(image, b)[::-1]
    mean = (1 / (1 + np.exp(-ours.astype(float))) + 1 / (1 + np.exp(-theirs.astype(float)))) / 2
    np.testing.assert_allclose(found, np.log(mean / (1 - mean)), atol=1e-4)


def test_sure_networks_do_not_overflow() -> None:
    class Constant(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.full_like(image, self.value)

    def averaged(*values: float) -> float:
        average = Average([Constant(v) for v in values], [[0]] * len(values))
        return float(average(torch.zeros(1, 1, 1, 1, 1)))

    assert averaged(90.0, 90.0) == pytest.approx(90.0)
    assert averaged(-90.0, -90.0, -90.0) == pytest.approx(-90.0)
    assert averaged(80.0, -80.0) == pytest.approx(0.0)


def test_one_model_is_itself(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, 1)
    loaded = load_ensemble([bundle], "cpu")
    assert loaded.bundle == bundle and not isinstance(loaded.network, Average)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("research", "research"), "research"),
        (("research", "phantom"), "phantom"),
    ],
)
def test_an_ensemble_is_of_the_least_trusted_kind(
    tmp_path: Path, kinds: tuple[str, str], expected: str
) -> None:
    bundles = [bundle_of(tmp_path, seed, kind=kind) for seed, kind in enumerate(kinds)]
    assert load_ensemble(bundles, "cpu").bundle.kind == expected


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    a = bundle_of(tmp_path, 1)
    with pytest.raises(ConfigError, match="they differ in their ROIs"):
        load_ensemble([a, bundle_of(tmp_path, 2, ("Brainstem", "Esophagus"))], "cpu")
    other = bundle_of(tmp_path, 3, preprocess=replace(SETTINGS, margin_mm=20.0))
    with pytest.raises(ConfigError, match=r"they differ in their preprocessing(.|\n)*m1-1 and .*m3-3"):
        load_ensemble([a, other], "cpu")


def test_predicting_with_several_models(tmp_path: Path) -> None:
    write_patient(tmp_path / "in", 1, {})
    folders = [bundle_of(tmp_path, seed).folder for seed in (1, 2)]
    ct = read_ct(tmp_path / "in" / "ct")
    assert ct.volume is not None
    prepared = prepare(ct.volume, SETTINGS)
    single = [run_network(prepared, load_ensemble([load_bundle(f)], "cpu")) for f in folders]
    both = run_network(prepared, load_ensemble([load_bundle(f) for f in folders], "cpu"))
    low, high = np.minimum(*single), np.maximum(*single)
    assert ((both >= low - 1e-4) & (both <= high + 1e-4)).all() and np.abs(both - single[0]).max() > 0.01
    arguments = [
        "predict",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
        "--no-overlays",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(cli, [*arguments, "--model", str(folders[0]), "--model", str(folders[1])])
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "P1" / "summary.json").read_text(encoding="utf-8"))
    assert summary["model"]["name"] == "m1-ensemble"
    assert [member[:6] for member in summary["model"]["ensemble_of"]] == ["m1 1.0", "m2 1.0"]
    hashes = {load_bundle(folder).weights_sha256 for folder in folders}
    assert summary["model"]["weights_sha256"] not in hashes
