"""Text for files that leave the machine: without the folders it was made in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def without_folders(value: T, folders: Sequence[Path]) -> T:
    """A text, or the texts in lists, mappings and dataclasses, with paths shortened to what lies below `folders`.

    A path to one of the folders itself becomes its name.
    """
    forms = {
        form: folder.name or "the data folder"
        for folder in folders
        for form in (str(folder.resolve()), str(folder.absolute()), str(folder))
        if len(form) > 1 and os.sep in form
    }
    ordered = sorted(forms.items(), key=lambda item: -len(item[0]))
    return _shortened(value, ordered)


def _shortened(value: Any, forms: Sequence[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for form, name in forms:
            value = value.replace(form + os.sep, "").replace(form, name)
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return dataclasses.replace(value, **{n: _shortened(getattr(value, n), forms) for n in fields})
    if isinstance(value, Mapping):
        return {key: _shortened(item, forms) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_shortened(item, forms) for item in value)
    return value
