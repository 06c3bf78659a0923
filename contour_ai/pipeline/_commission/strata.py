"""By what patients differ (metal, contrast, operation, scanner, slices), and how a model does in each group."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from contour_ai.csv_files import original, write_csv
from contour_ai.dicom.ct import CTSeries
from contour_ai.dicom.header import read_header
from contour_ai.dicom.values import text
from contour_ai.errors import ConfigError, InputError
from contour_ai.evaluation.metrics import BOTH, PREDICTION_MISSING, Row
from contour_ai.evaluation.report import quantile
from contour_ai.quality.figures import METAL_HU
from contour_ai.text_files import read_text_file, table_rows

STRATA_FILE = "strata.csv"
METAL, CONTRAST, OPERATED, SCANNER, SLICES = "metal", "contrast", "post-operative", "scanner", "slices"
STRATA = (METAL, CONTRAST, OPERATED, SCANNER, SLICES)
METAL_FROM_CM3 = 1.0
"""Smaller: markers, teeth fillings of little effect, noise."""
FEW = 5
"""Fewer patients say little about a group."""


@dataclass(frozen=True, kw_only=True)
class StratumFigures:
    """What was measured of one ROI in the patients of one group."""

    roi: str
    group: str
    patients: int
    dsc_median: float
    dsc_least: float
    hd95_mm_median: float


@dataclass(frozen=True, kw_only=True)
class Strata:
    """{stratum: {patient: group}}; a patient whose group is not known is not there."""

    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def figures(self, stratum: str, rows: Sequence[Row]) -> list[StratumFigures]:
        """ROI by ROI, group by group; a missing prediction counts as Dice 0."""
        of_patient = self.groups.get(stratum, {})
        scored = [row for row in rows if row.status in (BOTH, PREDICTION_MISSING)]
        found = []
        for roi in dict.fromkeys(row.roi for row in scored):
            for group in sorted(set(of_patient.values())):
                here = [row for row in scored if row.roi == roi and of_patient.get(row.patient) == group]
                if here:
                    found.append(
                        StratumFigures(
                            roi=roi,
                            group=group,
                            patients=len(here),
                            dsc_median=quantile([row.dsc for row in here], 0.5),
                            dsc_least=min(row.dsc for row in here),
                            hd95_mm_median=quantile([row.hd95_mm for row in here], 0.5),
                        )
                    )
        return found

    def save(self, path: Path, patients: Sequence[str]) -> None:
        """A table with a line for each patient, to be completed by hand.

        Raises:
            OutputError: it cannot be written.
        """
        names = list(dict.fromkeys([*STRATA, *self.groups]))
        rows = [
            [patient, *(self.groups.get(name, {}).get(patient, "") for name in names)] for patient in patients
        ]
        write_csv(path, ["patient", *names], rows)

    def over(self, measured: Strata) -> Strata:
        """What is said here, and what was measured where nothing is said."""
        names = dict.fromkeys([*measured.groups, *self.groups])
        return Strata(groups={n: {**measured.groups.get(n, {}), **self.groups.get(n, {})} for n in names})


def groups_of_ct(ct: CTSeries) -> dict[str, str]:
    """The groups of a patient that its CT, read with its pixels, tells."""
    header = _header(ct.paths[0])
    found = {SLICES: f"{ct.grid.spacing_mm[0]:.3g} mm"}
    if ct.volume is not None:
        voxel_cm3 = float(np.prod(ct.grid.spacing_mm)) / 1000
        metal_cm3 = int(np.count_nonzero(np.greater(ct.volume.hu, METAL_HU))) * voxel_cm3
        found[METAL] = "metal" if metal_cm3 >= METAL_FROM_CM3 else "no metal"
    found[CONTRAST] = "contrast agent named" if header.get(CONTRAST) else "none named"
    scanner = " ".join(filter(None, (header.get("Manufacturer"), header.get("ManufacturerModelName"))))
    if scanner:
        found[SCANNER] = scanner
    return found


def load_strata(path: Path) -> Strata:
    """A table as `Strata.save` writes it, completed by hand; empty cells say nothing.

    Raises:
        ConfigError: it cannot be read, or has no column `patient`.
    """
    try:
        header, *lines = table_rows(read_text_file(path)) or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError("The table of groups cannot be read.", where=path, found=error) from error
    rows = [dict(zip(header, line, strict=False)) for line in lines]
    if not rows or "patient" not in header:
        raise ConfigError(
            "The table of groups has no patients.",
            where=path,
            found=", ".join(header) if rows else "no line",
            expected=f"a column patient, and one for each of {', '.join(STRATA)} or others",
            fix=f"begin with the {STRATA_FILE} that `contour-ai commission --dossier` writes",
        )
    groups: dict[str, dict[str, str]] = {}
    for row in rows:
        for name, value in row.items():
            if name and name != "patient" and value.strip():
                groups.setdefault(name, {})[original(row.get("patient", ""))] = original(value.strip())
    return Strata(groups=groups)


def _header(path: Path) -> dict[str, str]:
    try:
        header = read_header(path, ["Manufacturer", "ManufacturerModelName", "ContrastBolusAgent"])
    except InputError:
        return {}
    found = {name: text(header, name) for name in ("Manufacturer", "ManufacturerModelName")}
    return {**found, CONTRAST: text(header, "ContrastBolusAgent")}
