"""The public Python API: `train`, `predict`, `evaluate` and `commission`, each loaded when it is first used.

A function has the name of the module that holds it. Python sets a package's attribute to a submodule that gets
imported; here the function wins, so that `from contour_ai.pipeline import predict` gives the same whoever came first.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_MODULES = {
    "train": "train",
    "predict": "predict",
    "load_model": "predict",
    "PredictOptions": "predict",
    "Prediction": "predict",
    "evaluate": "evaluate",
    "evaluate_versus": "evaluate",
    "commission": "commission",
    "CommissionOptions": "commission",
}
"""Name: module of this package that holds it. Importing the package imports neither torch nor pydicom."""


class _Api(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_MODULES})


sys.modules[__name__].__class__ = _Api
