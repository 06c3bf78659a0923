"""What a model was made from and how good it is: the typed records of `model.yaml` that people and the card read.

Unknown keys are refused when a bundle is read, so that a misspelt one is never taken for one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass

from contour_ai.bundle.seen_series import SeenSeries
from contour_ai.quality.suitability import TrainedOn
from contour_ai.settings import to_mapping

OTHER_RUNS = ("mirrored", "not mirrored", "fp32")
"""Keys of `results` in model.yaml that say what running the network in another way changes; see `ResultsRecord`."""


@dataclass(frozen=True, kw_only=True)
class RoiData:
    """What of one ROI a model has seen."""

    patients: int
    volume_cm3: tuple[float, float, float] | None = None
    """5 %, median and 95 % of the training patients."""


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The patients that a model was made from."""

    patients: int = 0
    training_patients: int = 0
    synthetic_patients: int = 0
    """Drawn from label maps or from the training patients, and trained on besides them."""
    relatives: bool = False
    """Whether the synthetic ones are relatives of the training patients, not drawn from label maps."""
    saw_no_patient: bool = False
    """Whether all patients were drawn, as by `synthesize` or `sample`."""
    rois_of_drawings: tuple[str, ...] = ()
    """ROIs that were contoured in drawn patients alone, where other ROIs were contoured in real ones, too."""
    patients_cut_where_blank: int = 0
    """Patients in whom slices that are blank but around contours were cut off."""
    rois: Mapping[str, RoiData] = field(default_factory=dict)
    trained_on: TrainedOn | None = None
    """What the headers of the training patients said: sex, age, position, contrast medium, tube voltage, tilt."""
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    """Left-right pairs that the network knows; None for those that the names say."""
    seen_series: tuple[SeenSeries, ...] = ()
    """Salted hashes of the CT series, of this training and of those whose weights it began with; empty where unknown,
    as in models of contour-ai 0.1."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How a model was trained."""

    steps: int = 0
    best_step: int = 0
    weights: str = ""
    """Which weights became the model, where they are not those that validated best."""
    hours: float = 0.0
    sample_kij: tuple[int, int, int] | None = None
    samples_a_step: int = 0
    processes: int = 1
    optimiser: str = ""
    device: str = ""
    mirrored_samples: bool = True
    """Whether it was shown mirrored patients, too."""
    pseudo_labels: str = ""
    """Which ROIs the network drew in patients that lack them; "" for none."""
    started_from: str = ""
    """Name and version of the model whose weights it began with."""


@dataclass(frozen=True, kw_only=True)
class RuleGain:
    """What the rule of one ROI changes in patients held back."""

    dice_without: float
    dice_with: float
    better_in: int | None = None
    """Patients; None where contour-ai 0.1 did not count them. The same of `worse_in`."""
    worse_in: int | None = None


@dataclass(frozen=True, kw_only=True)
class RulesRecord:
    """What is done after the network, and what it gains."""

    patients: int
    rules: Mapping[str, RuleGain] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CrossValidatedRoi:
    """Dice of one ROI over the held-out parts of a cross-validation."""

    patients: int
    mean: float
    percentiles: tuple[float, float, float]
    """5 %, 50 % and 95 %."""
    worst: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CrossValidationRecord:
    """What the trainings of a cross-validation found, each on the patients that it held out."""

    parts: int
    patients: int
    steps: tuple[int, ...]
    mean_dice: float
    mean_dice_of_parts: tuple[float, ...]
    dice: Mapping[str, CrossValidatedRoi]


@dataclass(frozen=True, kw_only=True)
class OtherRun:
    """What running the network in another way changes."""

    patients: int
    dice: Mapping[str, float]
    difference: Mapping[str, float]
    largest_difference: float
    instead_of: str = ""
    """The arithmetic that it is compared with."""


@dataclass(frozen=True, kw_only=True)
class ResultsRecord:
    """How good a model is on patients that it was not trained on."""

    what: str = ""
    patients: int = 0
    mean_dice: float | None = None
    dice: Mapping[str, float] = field(default_factory=dict)
    surface_dice: Mapping[str, float] = field(default_factory=dict)
    hd95_mm: Mapping[str, float] = field(default_factory=dict)
    accuracies: Mapping[str, float] = field(default_factory=dict)
    """Of the confusion matrix (see `evaluation.confusion.Accuracies`)."""
    worst: tuple[str, ...] = ()
    after_the_network: RulesRecord | None = None
    cross_validation: CrossValidationRecord | None = None
    other_runs: Mapping[str, OtherRun] = field(default_factory=dict)
    """By `OTHER_RUNS`; in model.yaml each of them is a key of its own."""


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """With what a model was made, so that it can be made again."""

    made_with: str = ""
    date: str = ""
    seed: int | None = None
    commands: tuple[str, ...] = ()
    data_and_settings_sha256: str = ""
    ensemble_of: tuple[str, ...] = ()
    """Name, version and weights' hash of the models that are averaged."""


def without_defaults(record: object) -> dict[str, object]:
    """A record as plain values, without the keys that have their default: as it stands in model.yaml."""
    assert is_dataclass(record)
    found = {}
    for one in fields(record):
        value = getattr(record, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if value != default:
            found[one.name] = _plain(value)
    return found


def results_mapping(results: ResultsRecord) -> dict[str, object]:
    """`without_defaults`, with every other way to run the network as a key of its own."""
    found = without_defaults(results)
    runs = found.pop("other_runs", {})
    assert isinstance(runs, Mapping)
    return {**found, **runs}


def results_from_mapping(content: object) -> object:
    """The opposite, for what a model.yaml says under `results`; what is no mapping stays, to be refused."""
    if not isinstance(content, Mapping):
        return content
    runs = {key: value for key, value in content.items() if key in OTHER_RUNS}
    rest = {key: value for key, value in content.items() if key not in OTHER_RUNS}
    return {**rest, "other_runs": runs} if runs else rest


def roi_names_in(data: DataRecord, results: ResultsRecord) -> Iterator[tuple[str, frozenset[str]]]:
    """(key of model.yaml, ROIs named there) of everything that is said by ROI."""
    yield "data.rois", frozenset(data.rois)
    yield "data.flip_pairs", frozenset(name for pair in data.flip_pairs or () for name in pair)
    for key in ("dice", "surface_dice", "hd95_mm"):
        yield f"results.{key}", frozenset(getattr(results, key))
    if results.after_the_network is not None:
        yield "results.after_the_network.rules", frozenset(results.after_the_network.rules)
    if results.cross_validation is not None:
        yield "results.cross_validation.dice", frozenset(results.cross_validation.dice)
    for way, run in results.other_runs.items():
        yield f"results.{way}.dice", frozenset(run.dice)


def _plain(value: object) -> object:
    if is_dataclass(value):
        return without_defaults(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return to_mapping(value)
