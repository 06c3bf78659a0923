"""The training configuration: every key explained, unknown keys refused, the resolved one saved with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from contour_ai.network_config import LEVELS_OF_PRESET
from contour_ai.preprocess import PreprocessSettings
from contour_ai.settings import commented_yaml, from_mapping
from contour_ai.training.data_config import DataConfig
from contour_ai.training.second_reader_config import SecondReaderConfig
from contour_ai.training.values import check_value
from contour_ai.yaml_files import read_yaml

Triple = tuple[int, int, int]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the bundle will be called and be for."""

    name: str = "model"
    """Name of the model; letters, digits, '.', '-' and '_'."""
    version: str = "1.0"
    """Version of the model, written into every structure set that it makes."""
    kind: Literal["research", "phantom"] = "research"
    """`phantom` marks a model trained on drawn phantoms, which must never contour a patient; one that learns from
    patients drawn by `contour-ai sample` is one, whatever stands here. `clinical` in older files means `research`."""
    description: str = ""
    """One line for `contour-ai models`."""
    mirror: bool = False
    """Whether prediction averages with the left-right mirror image where --no-tta does not forbid it: the network runs
    twice, for a little Dice. Rules and confidence are chosen for it."""
    windows: bool = False
    """Whether the network runs over a patient in overlapping windows of the samples' size, as it was trained, where the
    whole body would fit at once. For samples much smaller than a body and instance normalisation, whose statistics are
    those of the window; it takes up to eight times as long."""
    commands: tuple[str, ...] = ()
    """Shell commands that make the model again, for its card."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Further chapters of its card: heading and Markdown."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How images are brought to the model's grid; null values are planned from the data."""

    spacing_mm_kij: tuple[float, float, float] | None = None
    """Voxel size (superior, posterior, left) in mm; null for the median of the patients, but see finest_mm, or for that
    of the model to start from."""
    finest_mm: float = 2.0
    """A planned voxel is at least this large along every axis: finer ones cost much and gain little."""
    windows_hu: tuple[Range, ...] | None = None
    """One (low, high) intensity window per input channel; null for soft tissue (-160, 240) and a wider one that holds
    what the ROIs hold, be it bone or lung."""
    body_threshold_hu: float = PreprocessSettings.body_threshold_hu
    """Tissue is above, air below."""
    margin_mm: float = PreprocessSettings.margin_mm
    """Air kept around the body on every side."""
    outside_hu: int = PreprocessSettings.outside_hu
    """What everything outside the body is set to."""


@dataclass(frozen=True, kw_only=True)
class NetworkChoice:
    """The residual U-Net."""

    name: Literal["resunet3d", "deeper_resunet3d"] | None = None
    """`resunet3d` has 4 levels, `deeper_resunet3d` 5; null for the deeper one where samples are large enough."""
    base_filters: int = 16
    """Feature channels at full resolution, doubling at every level."""
    max_filters: int | None = 320
    """Upper limit of the doubling; null for none."""
    norm: Literal["batch", "instance"] | None = None
    """Normalisation; `instance` does not depend on the batch. Null to plan: `instance` where a step holds fewer than
    4 samples, whose statistics would not be those of the data; else `batch`, as in the presets."""
    dropout: float = 0.0
    """Dropout in the blocks while training. The presets' own value is 0.2; with the augmentation below it slows
    a step on a CPU by a fifth and gains nothing."""
    strides: tuple[Triple, ...] | None = None
    """(k, i, j) stride of each step down; null to plan them from the spacing, so that thick slices are kept."""
    kernels: tuple[Triple, ...] | None = None
    """(k, i, j) kernel of each level; null for 3, 3, 3."""
    deep_supervision: int = 0
    """Coarser decoder levels that get a loss of their own."""

    def __post_init__(self) -> None:
        check_value(self.base_filters >= 1, "network.base_filters", self.base_filters, "at least 1")
        check_value(0 <= self.dropout < 1, "network.dropout", self.dropout, "0 or more, below 1")
        check_value(self.levels - 2 >= self.deep_supervision >= 0, "network.deep_supervision", self.deep_supervision,
               f"0 to {self.levels - 2}")  # fmt: skip

    @property
    def levels(self) -> int:
        """Resolutions of the preset; of the shallower one where it is left open."""
        return LEVELS_OF_PRESET[self.name or "resunet3d"]


@dataclass(frozen=True)
class InputConfig:
    """What one training step sees."""

    RENAMED_KEYS: ClassVar[Mapping[str, str]] = {"roi_share": "foreground_fraction"}

    patch_kij: Triple | None = None
    """Voxels per sample; null to plan: the whole body where it fits, a patch of its proportions where not."""
    batch_size: int | None = None
    """Samples per step; null to plan."""
    foreground_fraction: float = 0.5
    """Share of the patches centred on a ROI, each contoured ROI equally often; no matter for whole bodies."""

    def __post_init__(self) -> None:
        check_value(
            self.batch_size is None or self.batch_size >= 1, "input.batch_size", self.batch_size, "1 or more"
        )
        check_value(
            0 <= self.foreground_fraction <= 1,
            "input.foreground_fraction",
            self.foreground_fraction,
            "0 to 1",
        )
        check_value(
            self.patch_kij is None or min(self.patch_kij) >= 8,
            "input.patch_kij",
            self.patch_kij,
            "at least 8 each",
        )


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of every sample, made on the training device. A probability of 0 switches one off."""

    flip: bool = True
    """Mirror left-right with probability 0.5, swapping paired ROIs and their presence. A network trained so cannot
    tell a patient's left from right: an organ beside the midline, such as the esophagus, is drawn nearer to it."""
    rotation_probability: float = 0.2
    """Chance of a rotation about each patient axis."""
    rotation_deg: float = 30.0
    """Largest rotation about each patient axis."""
    scale_probability: float = 0.2
    """Chance of scaling."""
    scale: Range = (0.7, 1.4)
    """Smallest and largest scale of the patient."""
    shift_mm: float = 20.0
    """Largest shift of whole-body samples along each axis."""
    cut_probability: float = 0.2
    """Chance of cutting off the top of the scan, and of the bottom: clinics scan less than data sets show."""
    cut_share: float = 0.35
    """Largest share of the slices cut off at each end."""
    noise_probability: float = 0.1
    """Chance of Gaussian noise."""
    noise_hu: float = 60.0
    """Largest standard deviation of the noise in HU (variance 0.1 of a soft-tissue window's half width)."""
    streak_probability: float = 0.1
    """Chance of streaks from a piece of metal in bone, as teeth have them."""
    streak_hu: float = 400.0
    """Largest strength of the streaks in HU."""
    blur_probability: float = 0.2
    """Chance of a Gaussian blur."""
    blur_voxels: Range = (0.5, 1.0)
    """Smallest and largest standard deviation of the blur in voxels."""
    brightness_probability: float = 0.15
    """Chance of multiplying the windowed image (0 to 1)."""
    brightness: Range = (0.75, 1.25)
    """Smallest and largest factor."""
    contrast_probability: float = 0.15
    """Chance of stretching the windowed image about its mean."""
    contrast: Range = (0.75, 1.25)
    """Smallest and largest factor."""
    low_resolution_probability: float = 0.25
    """Chance of simulating a coarser scan."""
    low_resolution: Range = (0.5, 1.0)
    """Smallest and largest share of the resolution left."""
    gamma_probability: float = 0.3
    """Chance of a power of the windowed image (0 to 1)."""
    gamma: Range = (0.7, 1.5)
    """Smallest and largest exponent."""

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if key.endswith("_probability"):
                check_value(0 <= value <= 1, f"augmentation.{key}", value, "0 to 1")
            if isinstance(value, tuple):
                check_value(
                    0 < value[0] <= value[1], f"augmentation.{key}", value, "low, high with 0 < low <= high"
                )
        check_value(0 <= self.cut_share <= 0.45, "augmentation.cut_share", self.cut_share, "0 to 0.45")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss: batch Dice + binary cross-entropy over the ROIs contoured in each patient."""

    RENAMED_KEYS: ClassVar[Mapping[str, str]] = {"filled_weight": "pseudo_label_weight"}

    dice_weight: float = 1.0
    """Weight of the Dice term."""
    bce_weight: float = 1.0
    """Weight of the cross-entropy."""
    pseudo_label_weight: float = 0.3
    """Weight of pseudo-labels (data.pseudo_label_from) against contours."""
    certain_negatives: bool = True
    """Whether a ROI that is not contoured in a patient is taught that it is not inside contoured organs that it never
    overlaps in the training patients who have both."""
    may_overlap: tuple[tuple[str, str], ...] = ()
    """Pairs of ROIs that may overlap although they do not in the training patients, as in [[Brain, Brainstem]]."""

    def __post_init__(self) -> None:
        check_value(
            0 < self.pseudo_label_weight <= 1,
            "loss.pseudo_label_weight",
            self.pseudo_label_weight,
            "above 0, at most 1",
        )


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How weights are changed."""

    name: Literal["muon", "adamw", "sgd", "adam"] = "muon"
    """Muon (orthogonal steps for convolutions, AdamW for the rest), AdamW, SGD with Nesterov momentum, or Adam."""
    learning_rate: float = 2e-3
    """Highest learning rate; the schedule takes a share of it. 1e-2 is usual for sgd."""
    weight_decay: float = 1e-2
    """Decay of convolution weights (norms and biases are left alone). 3e-5 is usual for sgd and adam."""
    momentum: float | None = None
    """Momentum of muon and sgd; null for the usual 0.95 and 0.99."""
    betas: Range = (0.9, 0.999)
    """Averaging of adamw, adam, and what muon leaves to adamw."""
    clip_norm: float | None = 12.0
    """Largest norm of the gradient, to which larger ones are scaled; null for none."""
    ema_decay: float = 0.999
    """Averaging of the weights that are validated and shipped; 0 takes them as they are."""

    def __post_init__(self) -> None:
        check_value(self.learning_rate > 0, "optimiser.learning_rate", self.learning_rate, "above 0")
        check_value(
            self.momentum is None or 0 <= self.momentum < 1,
            "optimiser.momentum",
            self.momentum,
            "0 or more, below 1",
        )
        check_value(0 <= self.ema_decay < 1, "optimiser.ema_decay", self.ema_decay, "0 or more, below 1")
        check_value(
            self.clip_norm is None or self.clip_norm > 0, "optimiser.clip_norm", self.clip_norm, "above 0"
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate goes from the first step to the last."""

    RENAMED_KEYS: ClassVar[Mapping[str, str]] = {
        "rise_share": "warmup_fraction",
        "start_share": "start_lr_factor",
        "final_share": "final_lr_factor",
    }

    name: Literal["constant", "poly", "one-cycle", "cosine", "multi-step", "exponential"] = "one-cycle"
    """`one-cycle` rises for warmup_fraction of the training, then falls; the others start at the highest value."""
    warmup_steps: int = 0
    """Steps in which the rate rises linearly from nothing, on top of any schedule."""
    power: float = 0.9
    """Exponent of poly."""
    warmup_fraction: float = 0.25
    """Share of the training in which one-cycle rises."""
    start_lr_factor: float = 0.04
    """What one-cycle starts with, as a share of the highest rate."""
    final_lr_factor: float = 1e-3
    """Share of the highest rate at the end of one-cycle, cosine and exponential."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of the training after which multi-step lowers the rate."""
    factor: float = 0.1
    """What multi-step lowers it by."""

    def __post_init__(self) -> None:
        check_value(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "0 or more")
        check_value(
            0 < self.warmup_fraction < 1, "schedule.warmup_fraction", self.warmup_fraction, "between 0 and 1"
        )
        check_value(
            0 < self.final_lr_factor <= 1,
            "schedule.final_lr_factor",
            self.final_lr_factor,
            "above 0, at most 1",
        )
        check_value(
            0 < self.start_lr_factor <= 1,
            "schedule.start_lr_factor",
            self.start_lr_factor,
            "above 0, at most 1",
        )
        check_value(
            all(0 < m < 1 for m in self.milestones), "schedule.milestones", self.milestones, "between 0 and 1"
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, and how often to look."""

    steps: int = 4000
    """Training steps; with a time budget as many as fit instead."""
    validate_every: int = 500
    """Steps between validations on whole patients; the last step is always validated."""
    weights: Literal["best", "mean"] = "best"
    """Which become the model: `best`, those that validated best; `mean`, the mean of these and the last ones, which
    follows chance less where few patients are held back."""
    checkpoint_minutes: float = 10.0
    """Longest time between two checkpoints that --resume can start from."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network; auto takes bf16 on CUDA and on CPUs with units for it. The loss is always fp32."""
    compile: bool = False
    """Whether torch compiles the network first, which takes minutes at the start. On a CPU it needs a C++ compiler (g++
    or what CXX names), on a GPU one for C and Triton, which torch brings along on Linux. Validation is not compiled."""
    threads: int | None = None
    """CPU threads; null for all or one, whichever is faster, measured now and again. With a fixed number, a training is
    the same bit for bit when it is repeated on the same machine."""
    seed: int = 1
    """Fixes the weights at the start and every random choice."""

    def __post_init__(self) -> None:
        check_value(self.steps >= 1, "run.steps", self.steps, "1 or more")
        check_value(self.validate_every >= 1, "run.validate_every", self.validate_every, "1 or more")
        check_value(self.threads is None or self.threads >= 1, "run.threads", self.threads, "1 or more")
        check_value(self.seed >= 0, "run.seed", self.seed, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that `contour-ai train` can be told in a file: nested records, each with defaults.

    `TrainConfig()` is the default; `dataclasses.replace(config, run=dataclasses.replace(config.run, steps=500))`
    changes a part. `contour-ai train --print-config` prints every key with its meaning.

    Raises:
        ConfigError: values that do not fit.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    """What the bundle will be called and be for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Which ROIs and patients are used."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """How images are brought to the model's grid; it goes into the bundle."""
    network: NetworkChoice = field(default_factory=NetworkChoice)
    """The residual U-Net."""
    input: InputConfig = field(default_factory=InputConfig)
    """What one training step sees."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Random changes of every sample. A probability of 0 switches one off."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Dice + binary cross-entropy over the ROIs contoured in each patient."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """How weights are changed."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """How the learning rate goes."""
    run: RunConfig = field(default_factory=RunConfig)
    """How long, and how often to look."""
    second_reader: SecondReaderConfig = field(default_factory=SecondReaderConfig)
    """A small second network, trained after the first one, with which contours are compared."""

    def __post_init__(self) -> None:
        check_value(
            self.augmentation.flip or not self.model.mirror,
            "model.mirror",
            self.model.mirror,
            "false where augmentation.flip is: the network would not know mirror images",
        )


def load_config(path: Path | None, *, fix: str = "check --config") -> TrainConfig:
    """A configuration from a YAML file; keys that are not there keep their defaults, None gives all defaults.

    Raises:
        ConfigError: the file cannot be read, has unknown keys (the nearest valid one is named) or values that do
            not fit.
    """
    if path is None:
        return TrainConfig()
    content = read_yaml(path, "The configuration", fix=fix)
    model = content.get("model") if isinstance(content, dict) else None
    if isinstance(content, dict) and isinstance(model, dict) and model.get("kind") == "clinical":
        content = {**content, "model": {**model, "kind": "research"}}
    return from_mapping(TrainConfig, {} if content is None else content, where=path)


def print_config(config: TrainConfig) -> str:
    """A configuration as YAML with every key explained in a comment."""
    return commented_yaml(config)
