"""`splits.json` of a run folder: which patients a training learnt from, and which it held back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contour_ai.files import atomic_file, write_text
from contour_ai.settings import read_record, to_mapping

SPLITS_FILE = "splits.json"


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Patient IDs by what a training did with them."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """{patient: why it was not used at all}."""
    rois_left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{patient: ROIs that are contoured, but do not count}; the reasons are in archive-check.csv."""


def write_splits(path: Path, splits: Splits) -> None:
    """Writes it, in the place of an earlier one.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_file(path, overwrite=True, private=True) as temporary:
        write_text(temporary, json.dumps(to_mapping(splits), indent=1, ensure_ascii=False))


def read_splits(path: Path) -> Splits:
    """The splits of a training with this version or an earlier one.

    Raises:
        ConfigError: it cannot be read, is no such file, or has keys that this version does not know.
    """
    return read_record(Splits, path, "The splits of the training")
