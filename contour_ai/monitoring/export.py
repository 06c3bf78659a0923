"""The most edited patients as an archive to train on, with a test set that never changes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contour_ai.files import atomic_folder, safe_name, write_text
from contour_ai.monitoring.records import COMPARED, ApprovedPair, Edit

TEST_FRACTION = 5
"""One patient in so many is for testing: always the same ones, by their ID, however the archive grows."""

README = """Patients whose AI contours were edited most, with the approved structure sets.

train/  the most edited, to train on
test/   patients set apart by their ID; never train on them

To go on training from the model in use, and to compare the new one with it on the test set:

    contour-ai train train --init MODEL --out runs/new
    contour-ai predict test/* --model runs/new/bundle --out new
    contour-ai predict test/* --model MODEL --out old
    contour-ai monitor old test --new-model new --out versus

`evaluate new test --versus old` gives every figure of every patient.
"""


@dataclass(frozen=True)
class Exported:
    """How many patients went where."""

    train: int
    test: int


def export_worst(
    pairs: Sequence[ApprovedPair], edits: Sequence[Edit], count: int, folder: Path, *, overwrite: bool = False
) -> Exported:
    """Copies CT and approved structure set of the `count` most edited patients, and of all test patients.

    A patient is as edited as the mean added path of its ROIs says, in mm.

    Raises:
        OutputError: the folder exists or cannot be written.
    """
    ranked = sorted(pairs, key=lambda p: -_edited(p, edits))
    test = [p for p in pairs if is_test_patient(p.patient)]
    train = [p for p in ranked if not is_test_patient(p.patient)][:count]
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        for part, chosen in (("train", train), ("test", test)):
            for number, pair in enumerate(chosen, start=1):
                place = temporary / part / f"{number:04d}-{safe_name(pair.patient)}"
                (place / "ct").mkdir(parents=True)
                for n, path in enumerate(pair.ct, start=1):
                    shutil.copyfile(path, place / "ct" / f"CT.{n:04d}.dcm")
                shutil.copyfile(pair.approved, place / "RS.dcm")
        write_text(temporary / "README.txt", README)
    return Exported(len(train), len(test))


def is_test_patient(patient: str) -> bool:
    """Whether a patient is set apart for testing: by a hash of the ID, so that it never changes."""
    return int(hashlib.sha256(patient.encode()).hexdigest(), 16) % TEST_FRACTION == 0


def _edited(pair: ApprovedPair, edits: Sequence[Edit]) -> float:
    mine = [e.added_path_mm for e in edits if e.series_uid == pair.series_uid and e.status == COMPARED]
    finite = [v for v in mine if v == v]
    return sum(finite) / len(finite) if finite else 0.0
