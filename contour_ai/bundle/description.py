"""What a model is, what it was made from and how it is run: the content of `model.yaml`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from contour_ai.bundle.records import DataRecord, MadeFrom, ResultsRecord, TrainingRecord, roi_names_in
from contour_ai.bundle.second_reader import SECOND_READER_FILE, SecondReader
from contour_ai.errors import ConfigError
from contour_ai.files import safe_name
from contour_ai.network_config import NetworkConfig
from contour_ai.preprocess import PreprocessSettings
from contour_ai.quality.contour_verdict import POOLED, ContourModel
from contour_ai.quality.ranges import Ranges
from contour_ai.settings import to_mapping
from contour_ai.structures import RoiInfo, flip_pairs
from contour_ai.structures.pieces import is_one_piece
from contour_ai.volume import MAX_ROIS

if TYPE_CHECKING:
    import torch

    from contour_ai.network import ResidualUNet3d


DESCRIPTION_FILE = "model.yaml"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How the network is run over a patient."""

    window_kij: tuple[int, int, int] = (96, 128, 128)
    """Sliding window in voxels, where the whole volume does not fit."""
    overlap: float = 0.5
    """Share of a window that the next one covers again."""
    max_voxels: int = 6_000_000
    """Volumes up to this many voxels go through the network in one piece."""
    mirror: bool = False
    """The network also runs on the left-right mirror image, and logits are averaged, unless told otherwise."""

    def __post_init__(self) -> None:
        if min(self.window_kij) < 1 or self.max_voxels < 1:
            raise ConfigError("Inference sizes must be positive.", found=(self.window_kij, self.max_voxels))
        if not 0 <= self.overlap < 1:
            raise ConfigError("The overlap of windows must lie in [0, 1).", found=self.overlap)

    def voxels_through_network(self, shape_kij: Sequence[int]) -> float:
        """Voxels that go through the network for an image of this shape, those in several windows several times."""
        voxels = math.prod(shape_kij)
        return voxels if voxels <= self.max_voxels else voxels / (1 - self.overlap) ** 3


@dataclass(frozen=True, kw_only=True)
class RoiPostprocess:
    """What is done to one ROI's prediction."""

    threshold: float = 0.5
    """Probability from which a voxel belongs to the ROI."""
    largest_component: bool = False
    """Keep the largest connected part only. Organs of one piece (`structures.pieces`) keep one in any case, unless
    `several_parts` says why not."""
    min_volume_cm3: float = 0.0
    """Connected parts below this volume are removed."""
    expected_dice: bool = False
    """Draw each patient's contour where the Dice to be expected is highest: at a probability between 0.2 and
    `threshold`. Parts that nowhere reach `threshold` are removed. Needs calibrated probabilities."""
    several_parts: str = ""
    """Why an organ that is one piece may have several parts in this model, for the card ("" for no reason)."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 or self.min_volume_cm3 < 0:
            raise ConfigError(
                "A value under postprocess is not valid.",
                found=f"threshold {self.threshold}, min_volume_cm3 {self.min_volume_cm3}",
                expected="threshold between 0 and 1, min_volume_cm3 of 0 or more",
                fix="correct it in model.yaml, or get the bundle again",
            )
        if self.several_parts and self.largest_component:
            raise ConfigError(
                "A ROI cannot both keep its largest part only and have a reason for several parts.",
                found=f"largest_component: true, several_parts: {self.several_parts!r}",
                expected="one of them",
                fix="remove one of the two keys in model.yaml",
            )

    @property
    def threshold_logit(self) -> float:
        """The logit of `threshold`: where the contour runs."""
        return math.log(self.threshold / (1 - self.threshold))


@dataclass(frozen=True, kw_only=True)
class RoiCalibration:
    """What was found about one ROI's probabilities on patients held back from the training."""

    temperature: float
    """Its logits are divided by this, so that a probability is the share of such voxels that belong to the ROI."""
    patients: int
    error_before: float
    """Expected calibration error of voxels between 1 % and 99 %, without the temperature."""
    error: float
    """The same with the temperature of the other patients."""
    reliability: tuple[tuple[float, float, int], ...] = ()
    """(mean probability, share that belongs to the ROI, voxels) by tenths of probability, with the temperature."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError("A temperature must be positive.", found=self.temperature)


def _judged_rois(model: ContourModel | None) -> frozenset[str]:
    """ROIs that a contour model has numbers of its own for."""
    return frozenset() if model is None else (frozenset(model.usual) | frozenset(model.limits)) - {POOLED}


@dataclass(frozen=True, kw_only=True)
class ModelBundle:
    """One model: what it is, what it was made from, and where its weights lie. `load_model(name).bundle` is one.

    Raises:
        ConfigError: its parts do not fit together.
    """

    folder: Path
    """Where the bundle lies; not part of `model.yaml`."""
    name: str
    """Name, also of its folder."""
    version: str
    """Version, written into every structure set that it makes."""
    kind: Literal["research", "phantom"]
    """`phantom` models show that the software works and must never contour a patient. All others are `research`:
    whether a department may use one is for its own commissioning to say. `clinical` in older bundles is read as
    `research`."""
    rois: tuple[RoiInfo, ...]
    """One a channel of the network, in that order."""
    preprocess: PreprocessSettings
    """How a CT is brought to the model's grid: voxel size (k, i, j) in mm, intensity windows in HU."""
    network: NetworkConfig
    """Architecture of the network."""
    default: bool = False
    """Whether `predict` takes it when no model is named."""
    description: str = ""
    """What it contours, in one line."""
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    """How the network is run over a patient."""
    postprocess: Mapping[str, RoiPostprocess] = field(default_factory=dict)
    """By ROI name; a ROI without an entry has the defaults."""
    calibration: Mapping[str, RoiCalibration] = field(default_factory=dict)
    """By ROI name; a ROI without an entry keeps the network's own probabilities."""
    data: DataRecord = field(default_factory=DataRecord)
    """What it was trained on."""
    training: TrainingRecord = field(default_factory=TrainingRecord)
    """How it was trained."""
    results: ResultsRecord = field(default_factory=ResultsRecord)
    """How it did on patients held back from the training."""
    provenance: MadeFrom = field(default_factory=MadeFrom)
    """The software, the commands and the models that it was made from."""
    ranges: Ranges | None = None
    """Reference ranges of the training patients, for the flags of a prediction; None where it was not measured."""
    contour_model: ContourModel | None = None
    """What makes a verdict of the figures of anybody's contours, for `review`; None where it was not fitted."""
    own_contour_model: ContourModel | None = None
    """The same of the contours that the model draws itself, for `predict`."""
    second_reader: SecondReader | None = None
    """A small second network whose answer is compared with contours; None where there is none."""
    region: str = ""
    """The part of the body that it knows, in words ("head and neck"), for the verdict on a scan that shows another."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Chapters of the card that a person wrote: heading and Markdown."""
    weights_sha256: str = ""
    """SHA-256 of the weights file, which is checked before it is used."""

    def __post_init__(self) -> None:
        where = self.folder / DESCRIPTION_FILE
        if self.name != safe_name(self.name):
            raise ConfigError("A model's name must be a plain file name.", where=where, found=self.name)
        if self.default and (self.kind == "phantom" or self.data.saw_no_patient):
            what = "A phantom model" if self.kind == "phantom" else "A model that never saw a patient"
            raise ConfigError(
                f"{what} cannot be the default of predict.",
                where=where,
                fix="set default: false",
            )
        names = self.roi_names
        if len(set(names)) != len(names) or not 1 <= len(names) <= MAX_ROIS:
            raise ConfigError(f"A model has 1 to {MAX_ROIS} ROIs, each once.", where=where, found=names)
        for what, found, expected in (
            ("output channels and its ROIs", self.network.out_channels, len(self.rois)),
            ("input channels and its windows", self.network.in_channels, len(self.preprocess.windows_hu)),
        ):
            if found != expected:
                raise ConfigError(
                    f"The network's {what} differ in number.", where=where, found=found, expected=expected
                )
        if self.second_reader is not None:
            channels = self.second_reader.network.in_channels, self.second_reader.network.out_channels
            if channels != (self.network.in_channels, self.network.out_channels):
                raise ConfigError(
                    "The second reader has other windows or ROIs than the model.",
                    where=where,
                    found="{} windows, {} ROIs".format(*channels),
                    expected=f"{self.network.in_channels} windows, {self.network.out_channels} ROIs",
                )
        for model in (self.contour_model, self.own_contour_model):
            asked = [] if model is None else [w for w in model.weights if w.startswith("second_")]
            if asked and self.second_reader is None:
                raise ConfigError(
                    "Verdicts need the second reader, which the model does not have.",
                    where=where,
                    found=", ".join(asked),
                    fix="get the bundle again, as a whole",
                )
        ranges = {} if self.ranges is None else self.ranges.rois
        for what, keys in (
            ("Post-processing", frozenset(self.postprocess)),
            ("Calibration", frozenset(self.calibration)),
            ("Ranges", frozenset(ranges)),
            ("The contour model", _judged_rois(self.contour_model)),
            ("The model of its own contours", _judged_rois(self.own_contour_model)),
            ("The second reader", frozenset(() if self.second_reader is None else self.second_reader.dice)),
            *roi_names_in(self.data, self.results),
        ):
            unknown = sorted(keys - set(names))
            if unknown:
                raise ConfigError(
                    f"{what} for ROIs the model does not have.",
                    where=where,
                    found=", ".join(unknown),
                    expected=", ".join(names),
                )

    @property
    def roi_names(self) -> tuple[str, ...]:
        """ROI names in the order of the network's channels."""
        return tuple(roi.name for roi in self.rois)

    @property
    def weights_path(self) -> Path:
        """Where the weights lie."""
        return self.folder / WEIGHTS_FILE

    @property
    def second_reader_path(self) -> Path:
        """Where the weights of the second reader lie, where there is one."""
        return self.folder / SECOND_READER_FILE

    @property
    def inference_fingerprint(self) -> str:
        """SHA-256 of all that decides a contour: weights, ROIs, preprocessing, how the network is run, rules."""
        rules = {roi: self.postprocess_of(roi) for roi in self.roi_names}
        mapping = to_mapping(replace(self, folder=Path(), postprocess=rules))
        wanted = (
            "rois",
            "preprocess",
            "network",
            "inference",
            "postprocess",
            "calibration",
            "weights_sha256",
        )
        text = json.dumps([self.mirror_channels, {key: mapping[key] for key in wanted}], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def mirror_channels(self) -> tuple[int, ...]:
        """Channel that each channel becomes in a left-right mirror (its own where it has no partner)."""
        channels = list(range(len(self.rois)))
        learnt = self.data.flip_pairs
        names = {name: n for n, name in enumerate(self.roi_names)}
        pairs = flip_pairs(self.roi_names) if learnt is None else [(names[a], names[b]) for a, b in learnt]
        for a, b in pairs:
            channels[a], channels[b] = b, a
        return tuple(channels)

    def uses_mirror_tta(self, tta: bool | None = None) -> bool:
        """Whether the mirror image is predicted, too, where the user says `tta`, or nothing."""
        return self.inference.mirror if tta is None else tta

    @property
    def trained_with_mirroring(self) -> bool:
        """Whether the training showed mirrored patients, too; averaging with the mirror image makes others worse."""
        return self.training.mirrored_samples

    def postprocess_of(self, roi: str) -> RoiPostprocess:
        """What is done to a ROI's prediction; an organ of one piece keeps its largest part."""
        rule = self.postprocess.get(roi, RoiPostprocess())
        if is_one_piece(roi) and not rule.several_parts:
            return replace(rule, largest_component=True)
        return rule

    def calibrate_network(self, network: ResidualUNet3d) -> None:
        """Divides the logits of a network with this bundle's own weights by the temperatures, in its last layer."""
        import torch

        with torch.no_grad():
            for channel, roi in enumerate(self.roi_names):
                if roi in self.calibration:
                    network.head.weight[channel] /= self.calibration[roi].temperature
                    assert network.head.bias is not None
                    network.head.bias[channel] /= self.calibration[roi].temperature

    def build_network(self, device: str | torch.device = "cpu", *, calibrated: bool = True) -> ResidualUNet3d:
        """The network with its weights in fp32 and channels_last_3d, in evaluation mode, on `device`.

        Args:
            calibrated: whether its logits are divided by the temperatures of `calibration`.

        Raises:
            ModelError: the weights are missing, damaged or of another network.
        """
        import torch

        from contour_ai.bundle.networks import network_of
        from contour_ai.bundle.reading import read_weights

        network = network_of(read_weights(self), self.network, self.weights_path, self.name)
        if calibrated:
            self.calibrate_network(network)
        return network.eval().to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def build_second_reader(self, device: str | torch.device = "cpu") -> ResidualUNet3d | None:
        """The second reader's network, as `build_network` gives the first one's; None where there is none.

        Raises:
            ModelError: the weights are missing, damaged or of another network.
        """
        if self.second_reader is None:
            return None
        import torch

        from contour_ai.bundle.networks import network_of
        from contour_ai.bundle.reading import read_second_reader

        network = network_of(
            read_second_reader(self), self.second_reader.network, self.second_reader_path, self.name
        )
        return network.eval().to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
