"""What a training is told of synthetic patients: which are drawn, and how often they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from contour_ai.errors import ConfigError
from contour_ai.sample.synthesis.recipe import SynthesisRecipe


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Synthetic patients to train on besides those of the archive: drawn from label maps, as by `contour-ai
    synthesize`, or, without label maps, relatives of the training patients."""

    label_maps: str = ""
    """File or folder of label maps (.npz, or subjects of the TotalSegmentator data set); none for relatives."""
    count: int = 60
    """Patients to draw, once, into the folder of the run."""
    share: float = 0.5
    """Share of the samples that come from them."""
    first_seed: int = 1
    """Seed of the first."""
    recipe: SynthesisRecipe = field(default_factory=SynthesisRecipe)
    """How they are drawn; every key is explained by `contour-ai synthesize --print-recipe`."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(
                "The value of data.synthetic.share is not valid.",
                found=self.share,
                expected="above 0, below 1",
                fix="0.5 takes every second sample from a synthetic patient; without `synthetic` there are none",
            )
        if self.count < 1 or self.first_seed < 0:
            raise ConfigError(
                "The number or the first seed of synthetic patients is not valid.",
                found=f"count {self.count}, first_seed {self.first_seed}",
                expected="count of 1 or more, first_seed of 0 or more",
                fix="change data.synthetic in the configuration",
            )


@dataclass(frozen=True)
class SyntheticPart:
    """The synthetic ones among the training patients."""

    number: int
    """So many, the last ones."""
    share: float
    """Share of the samples that come from them."""


def interleaved(position: int, share: float) -> tuple[bool, int]:
    """Whether a position of an endless sequence belongs to a part that has `share` of it, and its place in that part.

    Of the first n positions, n times `share` rounded down belong to it: any position can be asked for alone.
    """
    before, after = int(position * share), int((position + 1) * share)
    return (True, before) if after > before else (False, position - before)
