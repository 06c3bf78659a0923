"""`commissioning.json`: the same as the report, for programs; model, machine and software of a run.

Its JSON schema is `docs/commissioning.schema.json`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from contour_ai import __version__
from contour_ai.evaluation.limits import Check
from contour_ai.evaluation.report import plain
from contour_ai.evaluation.tolerances import Tolerances
from contour_ai.files import write_text
from contour_ai.pipeline._commission.options import CommissionOptions
from contour_ai.pipeline._predict import LoadedModel
from contour_ai.report.commissioning import CommissionedPatient, CommissioningPage
from contour_ai.report.constancy import Constancy
from contour_ai.settings import from_mapping, read_record, to_mapping
from contour_ai.structures.roi_map import RoiMap

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pydicom",
    "rt-utils",
    "scikit-image",
    "pillow",
    "safetensors",
)
"""Those that a contour or a figure depends on."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What of the options decides the figures, so that the run can be repeated."""

    tta: bool | None = None
    """Whether the left-right mirror image was averaged; null for the model's setting."""
    structure_set: str = "only"
    """Which structure set was compared with where a CT has several."""
    acquisition: int | None = None
    """AcquisitionNumber that was taken where several overlap; null for none."""
    keep_trained_on: bool = False
    """Whether patients that the model was trained on were measured, too."""
    tau: Tolerances | float | None = None
    """Tolerance of the surface DSC, mm; null for those that come with the package."""
    roi_map: Mapping[str, object] | None = None
    """A `RoiMap` without the path that it was read from."""

    @classmethod
    def of(cls, options: CommissionOptions) -> RunSettings:
        """Those of a run."""
        roi_map = None if options.roi_map is None else to_mapping(options.roi_map)
        if roi_map is not None:
            del roi_map["source"]
        return cls(
            tta=options.tta,
            structure_set=options.structure_set,
            acquisition=options.acquisition,
            keep_trained_on=options.keep_trained_on,
            tau=options.tau,
            roi_map=roi_map,
        )

    def over(self, options: CommissionOptions) -> CommissionOptions:
        """Other options with these."""
        roi_map = None
        if self.roi_map is not None:
            roi_map = from_mapping(RoiMap, self.roi_map)
        return replace(
            options,
            tta=self.tta,
            structure_set=self.structure_set,
            acquisition=self.acquisition,
            keep_trained_on=self.keep_trained_on,
            tau=self.tau,
            roi_map=roi_map,
        )


@dataclass(frozen=True, kw_only=True)
class CommissioningRecord:
    """What a commissioning run found; paths are relative to its folder."""

    passed: bool
    """Whether every check passed."""
    not_judged: tuple[str, ...] = ()
    """ROIs of the model that have no limit."""
    title: str = ""
    """Heading of the report."""
    started: str = ""
    """Date and time of the run's start, UTC, ISO 8601."""
    run: tuple[Check, ...] = ()
    """Whether every patient was contoured and compared."""
    limits: tuple[Check, ...] = ()
    """The department's limits and what was found."""
    self_test: tuple[Check, ...] = ()
    """Analytic shapes and figures worked out by hand."""
    patients: tuple[CommissionedPatient, ...] = ()
    """The patients that were contoured, or could not be."""
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """{heading: {name: value}}."""
    settings: RunSettings | None = None
    """Null in records of version 0.1, which cannot be repeated."""
    constancy: Constancy | None = None
    """The comparison with an earlier run; null where none was given."""
    limits_file: str = ""
    """The file of limits, word for word."""
    notes: tuple[str, ...] = ()
    """What was left out or assumed, in sentences."""


def write_record(path: Path, page: CommissioningPage, started: datetime, options: CommissionOptions) -> None:
    """The same as the report, for programs, and with which settings the run can be repeated."""
    record = CommissioningRecord(
        passed=page.passed,
        not_judged=tuple(page.not_judged),
        title=page.title,
        started=started.isoformat(timespec="seconds"),
        run=tuple(page.run),
        limits=tuple(page.limits),
        self_test=tuple(page.self_test),
        patients=tuple(page.patients),
        environment=page.environment,
        settings=RunSettings.of(options),
        constancy=page.constancy,
        limits_file=page.limits_text,
        notes=tuple(page.notes),
    )
    text = json.dumps(plain(to_mapping(record)), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_commissioning_record(path: Path) -> CommissioningRecord:
    """A `commissioning.json`, of this version or an earlier one.

    Raises:
        ConfigError: it cannot be read, is no such record, or has keys that this version does not know.
    """
    return read_record(CommissioningRecord, path, "The record of a commissioning run")


def environment(
    model: LoadedModel, data_dir: Path, options: CommissionOptions
) -> Mapping[str, Mapping[str, str]]:
    """Model, machine and software, so that a later run can tell what changed."""
    bundle = model.bundle
    return {
        "Model": {
            "name": bundle.name,
            "version": bundle.version,
            "kind": bundle.kind,
            "weights SHA-256": bundle.weights_sha256,
            "fingerprint of weights and rules": bundle.inference_fingerprint,
        },
        "Machine": {
            "system": platform.platform(),
            "processor": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "computes on": model.computes_in + _gpu_name(model),
        },
        "Software": {
            "contour-ai": __version__,
            "Python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "Options": {
            "data": data_dir.resolve().name,
            "device": options.device,
            "tta": str(bundle.uses_mirror_tta(options.tta)),
            "tau": _tau_in_words(options.tau),
            "ROI map": "none" if options.roi_map is None else "given",
        },
    }


def _tau_in_words(tau: float | Tolerances | None) -> str:
    if isinstance(tau, float | int):
        return f"{tau:g} mm for every ROI"
    return "by ROI, built in (see the notes)" if tau is None else "by ROI, from a file (see the notes)"


def _gpu_name(model: LoadedModel) -> str:
    if model.device.type != "cuda":
        return ""
    import torch

    return f" ({torch.cuda.get_device_name(model.device)})"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
