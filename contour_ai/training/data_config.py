"""The part of the training configuration that says which ROIs and patients are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import ClassVar, Literal

from contour_ai.training.synthetic import SyntheticConfig
from contour_ai.training.values import check_value


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which ROIs and patients are used."""

    RENAMED_KEYS: ClassVar[Mapping[str, str]] = {"fill_at": "pseudo_label_from"}

    rois: tuple[str, ...] | None = None
    """ROIs to learn, by their names after the ROI map; null for all organs (not targets, not the body)."""
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    """ROIs that change places in a left-right mirror; null for those whose names differ in the side alone."""
    min_patients: int | None = None
    """ROIs contoured in fewer patients are left out, and named; null for a twentieth of the patients, at least one."""
    structure_set: str = "newest"
    """Which structure set is taken where a CT has several: newest, approved, only (none where there are several), merge
    (ROIs from all of them, where they do not contradict each other), or a pattern of labels such as CLINICAL*.
    Unapproved contours of contour-ai are never taken."""
    acquisition: int | None = None
    """Which acquisition is taken where several overlap in a CT series (phases, a range scanned twice); null leaves such
    patients out, with the list of what is there."""
    exclude: Mapping[str, str] = field(default_factory=dict)
    """{patient ID or folder: reason} of patients that are neither trained on nor validate, nor any CT that is equal to
    theirs: a test set, or patients unfit to learn from. --exclude FILE adds to it."""
    validation_share: float = 0.15
    """Share of the patients held out for validation, chosen by a fixed hash of the patient ID."""
    validation_patients: tuple[str, ...] | None = None
    """Patient IDs or folders that validate instead, and nobody else; null for the hash."""
    validation_from: str | None = None
    """A date (2025-06-30): patients with a CT of that day or later validate instead; null for the hash."""
    fold: tuple[int, int] | None = None
    """Cross-validation instead: (2, 5) holds out the second of five parts of the patients; null for none."""
    public: bool = False
    """Whether anyone may know the patient IDs, as those of a published data set (OpenKBP) or of phantoms. Otherwise the
    model and its card name patients by pseudonyms; who is who stands in pseudonyms.json of the run folder alone."""
    blank_slices: Literal["cut", "keep"] = "cut"
    """What becomes of the ends of a scan that are blank but around contours, where the image gives the answer away:
    they are cut off, or kept as if they were true."""
    pseudo_label_from: float | None = None
    """After this share of the training (as 0.6) the network draws ROIs that training patients lack (pseudo-labels),
    where their volume is as in the other patients. From there on they are learnt from with loss.pseudo_label_weight.
    Null for never."""
    synthetic: SyntheticConfig | None = None
    """Synthetic patients to train on, too: label_maps, count, share, first_seed and recipe; null for none."""

    def __post_init__(self) -> None:
        check_value(
            0 < self.validation_share < 1, "data.validation_share", self.validation_share, "between 0 and 1"
        )
        check_value(
            self.fold is None or (self.fold[1] >= 2 and 1 <= self.fold[0] <= self.fold[1]),
            "data.fold",
            self.fold,
            "k, n with 1 <= k <= n and n at least 2",
        )
        ways = ("fold", "validation_patients", "validation_from")
        given = [f"data.{way}" for way in ways if getattr(self, way) is not None]
        check_value(
            len(given) < 2, "the split of the patients", ", ".join(given), "one way to choose who validates"
        )
        check_value(
            self.validation_from is None or _is_date(self.validation_from),
            "data.validation_from",
            self.validation_from,
            "a date such as 2025-06-30",
        )
        check_value(
            self.pseudo_label_from is None or 0 < self.pseudo_label_from < 1,
            "data.pseudo_label_from",
            self.pseudo_label_from,
            "null or between 0 and 1",
        )
        check_value(
            self.blank_slices in ("cut", "keep"), "data.blank_slices", self.blank_slices, "cut or keep"
        )
        check_value(
            self.rois is None or len(self.rois) > 0, "data.rois", self.rois, "null or a list of names"
        )


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
