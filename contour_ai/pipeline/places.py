"""Text for files that leave the machine: without the folders it was made in."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")

ABSOLUTE = re.compile(
    r"""(?<![^\s("'=:;,])(?:/(?:[^/\s:;,"'()]+/)+|(?:[A-Za-z]:[\\/]|\\\\)(?:[^\\/\s:;,"'()]+[\\/])*)"""
)
"""The folders of an absolute path, on Linux and macOS or on Windows, where a word begins."""


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

    def shortened(text: str) -> str:
        for form, name in ordered:
            text = text.replace(form + os.sep, "").replace(form, name)
        return text

    return cast("T", _with_texts(value, shortened))


def without_paths(value: T) -> T:
    """A text, or the texts in lists, mappings and dataclasses, with every absolute path shortened to its last part.

    For messages of other origin, whose folders are not known. Of a folder name with spaces, a part may stay.
    """
    return cast("T", _with_texts(value, lambda text: ABSOLUTE.sub("", text)))


def _with_texts(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return dataclasses.replace(value, **{n: _with_texts(getattr(value, n), change) for n in fields})
    if isinstance(value, Mapping):
        return {key: _with_texts(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_with_texts(item, change) for item in value)
    return value
