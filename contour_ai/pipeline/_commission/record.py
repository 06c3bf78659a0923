"""`commissioning.json`: the same as the report, for programs; model, machine and software of a run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from contour_ai import __version__
from contour_ai.evaluation.report import plain
from contour_ai.evaluation.tolerances import Tolerances
from contour_ai.files import write_text
from contour_ai.pipeline._commission.options import CommissionOptions
from contour_ai.pipeline._predict import LoadedModel
from contour_ai.report.commissioning import CommissioningPage
from contour_ai.settings import to_mapping

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


def write_record(path: Path, page: CommissioningPage, started: datetime, options: CommissionOptions) -> None:
    """The same as the report, for programs, and with which settings the run can be repeated."""
    content = {
        "passed": page.passed,
        "not_judged": list(page.not_judged),
        "title": page.title,
        "started": started.isoformat(timespec="seconds"),
        **{
            name: [asdict(check) for check in checks]
            for name, checks in (("run", page.run), ("limits", page.limits), ("self_test", page.self_test))
        },
        "patients": [asdict(patient) for patient in page.patients],
        "environment": page.environment,
        "settings": _settings(options),
        "constancy": None if page.constancy is None else asdict(page.constancy),
        "limits_file": page.limits_text,
        "notes": list(page.notes),
    }
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _settings(options: CommissionOptions) -> dict[str, object]:
    """What of the options decides the figures."""
    roi_map = None if options.roi_map is None else to_mapping(options.roi_map)
    if roi_map is not None:
        del roi_map["source"]  # a path
    return {
        "tta": options.tta,
        "structure_set": options.structure_set,
        "keep_trained_on": options.keep_trained_on,
        "tau": to_mapping(options.tau),
        "roi_map": roi_map,
    }


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
