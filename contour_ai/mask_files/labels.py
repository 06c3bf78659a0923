"""Which ROI a voxel's value stands for: names in a header, in a file of names, or the file's own name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.errors import InputError
from contour_ai.mask_files.stored import StoredImage, StoredSegment
from contour_ai.text_files import read_text_file
from contour_ai.yaml_files import parse_yaml

NAMES_FILE = "names.yaml"
"""In a folder of masks: {file name: ROI name}, or {file name: {label: ROI name}}."""

NNUNET_FILE = "dataset.json"
"""nnU-Net's description of a data set; its `labels` are {name: label}, or {label: name} in version 1."""

MAX_NAMES_BYTES = 4 << 20
BACKGROUND = "background"


@dataclass(frozen=True)
class Names:
    """What files of names say."""

    files: Mapping[str, str] = field(default_factory=dict)
    """{file name: ROI name}."""
    tables: Mapping[str, tuple[StoredSegment, ...]] = field(default_factory=dict)
    """{file name: names of its labels}."""
    table: tuple[StoredSegment, ...] = ()
    """Names of the labels of every file."""


def read_names(source: Path, stem: str | None) -> Names:
    """The names for a file of masks, or for a folder of them; nothing where there is no file of names.

    Args:
        source: the file or folder of masks.
        stem: the file's name without its suffix; None for a folder.

    Raises:
        InputError: a file of names is there, but cannot be used.
    """
    folder = source if stem is None else source.parent
    stems = ["names"] if stem is None else [f"{stem}.names", stem, "names"]
    for path in (folder / f"{name}{suffix}" for name in stems for suffix in (".yaml", ".yml", ".json")):
        if path.is_file():
            return _names(_content(path), path)
    for path in (folder / NNUNET_FILE, folder.parent / NNUNET_FILE):
        if path.is_file() and (path.parent == folder or folder.name.lower().startswith("labels")):
            labels = _content(path).get("labels")
            if isinstance(labels, Mapping):
                return Names(table=_table(labels, path))
    return Names()


def named_masks(
    image: StoredImage, path: Path, stem: str, names: Names
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """(ROI name, mask as it is stored) of every ROI in a file; those without voxels too, where they have a name.

    Raises:
        InputError: several labels without names, labels without a name, or values that are no mask's.
    """
    own = names.files.get(path.name)
    table = names.tables.get(path.name) or image.segments or names.table
    if (own is not None or not table) and len(image.layers) > 1:
        raise InputError(
            "The file has several layers, but nothing says which ROIs they are.",
            where=path,
            found=f"{len(image.layers)} layers",
            fix="write one file for each ROI",
        )
    if own is not None:
        yield own, boolean(image.layers[0], str(path))
        return
    if not table:
        values = _values(image.layers[0], path)
        if len(values) > 1:
            raise InputError(
                "The file has several labels, but nothing says which ROIs they are.",
                where=path,
                found=f"labels {_listed(values)}",
                fix=f"write {stem}.names.yaml beside it, with a line 'label: ROI name' for each",
            )
        yield stem, boolean(image.layers[0], str(path))
        return
    _refuse_unnamed(image, table, path)
    for segment in table:
        if segment.layer < len(image.layers):
            yield segment.name, np.isin(image.layers[segment.layer], segment.labels)
        else:
            raise InputError(
                "The header names a segment in a layer that the file does not have.",
                where=path,
                found=f"{segment.name}: layer {segment.layer}",
                expected=f"{len(image.layers)} layers",
            )


def boolean(array: NDArray[np.generic], where: str) -> NDArray[np.bool_]:
    """An array of False and True, of 0 and 1, or of 0 and any one other number.

    Raises:
        InputError: values that are no mask's; what they seem to be is said.
    """
    if array.dtype == np.bool_:
        return array.astype(np.bool_, copy=False)
    if array.dtype.kind not in "uif":
        raise InputError("A mask must be boolean or 0 and 1.", where=where, found=array.dtype)
    mask = array != 0
    other = mask & (array != array.dtype.type(1))
    if other.any() and (len(np.unique(array[mask])) > 1 or _refusal(array[mask])):  # 0 and 255 are fine
        found, fix = _refusal(array[mask]) or (
            f"values from {array.min()} to {array.max()}",
            "threshold it, or give a file of names for its labels",
        )
        raise InputError("A mask must be boolean or 0 and 1.", where=where, found=found, fix=fix)
    return mask


def _refusal(values: NDArray[np.generic]) -> tuple[str, str] | None:
    """(what values other than 0 seem to be, what to do) where they are neither a mask nor labels."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return "values that are not finite (NaN or infinity)", "write the mask again with 0 and 1"
        if values.min() >= 0 and values.max() <= 1 and (values != 1).any():
            return (
                f"values from {values.min():.3g} to {values.max():.3g}, which are probabilities",
                "threshold them (most often at 0.5) and save 0 and 1",
            )
        if (values != np.rint(values)).any():
            return (
                f"values from {values.min():.3g} to {values.max():.3g} with fractions: an image, logits or distances",
                "give the mask that was made from it, with 0 and 1",
            )
    if values.min() < 0:
        return f"values from {values.min()} to {values.max()}: an image", "give the mask, with 0 and 1"
    return None


def _values(array: NDArray[np.generic], path: Path) -> list[int]:
    """The labels in an array, without 0."""
    if array.dtype.kind == "b":
        return [1] if array.any() else []
    nonzero = array[array != 0]
    refusal = _refusal(nonzero) if len(nonzero) else None
    if refusal is not None:
        raise InputError("A mask must be boolean or 0 and 1.", where=path, found=refusal[0], fix=refusal[1])
    return [int(v) for v in np.unique(nonzero).tolist()]


def _refuse_unnamed(image: StoredImage, table: tuple[StoredSegment, ...], path: Path) -> None:
    for n, layer in enumerate(image.layers):
        known = {label for segment in table if segment.layer == n for label in segment.labels}
        unnamed = [label for label in _values(layer, path) if label not in known]
        if unnamed:
            raise InputError(
                "The file has labels without a name.",
                where=path,
                found=f"[{_listed(unnamed)}]" + (f" in layer {n}" if len(image.layers) > 1 else ""),
                fix="add them to the file of names",
            )


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _content(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > MAX_NAMES_BYTES:
            raise InputError(
                "The file of names cannot be read.",
                where=path,
                found=f"{path.stat().st_size} bytes",
                expected=f"at most {MAX_NAMES_BYTES}",
            )
        text = read_text_file(path)
        names = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("The file of names cannot be read.", where=path, found=error) from error
    if not isinstance(names, dict):
        raise InputError(
            "A file of names must map labels or file names to ROI names.",
            where=path,
            found=type(names).__name__,
        )
    return {str(key): value for key, value in names.items()}


def _names(content: Mapping[str, object], path: Path) -> Names:
    nested = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    if nested.keys() == {"labels"}:  # a description in nnU-Net's manner under another name
        return Names(table=_table(nested["labels"], path))
    plain = {key: value for key, value in content.items() if key not in nested}
    tables = {key: _table({str(k): v for k, v in value.items()}, path) for key, value in nested.items()}
    if plain and not nested and _is_table(plain):
        return Names(table=_table(plain, path))
    return Names(files={key: _text(value, key, path) for key, value in plain.items()}, tables=tables)


def _is_table(names: Mapping[str, object]) -> bool:
    return all(_is_label(key) for key in names) or all(_labels(value) for value in names.values())


def _table(names: Mapping[str, object], path: Path) -> tuple[StoredSegment, ...]:
    """{label: ROI name}, or {ROI name: label or labels}, without the background."""
    if all(_is_label(key) for key in names):
        segments = [StoredSegment(_text(value, key, path), (int(key),)) for key, value in names.items()]
    elif all(_labels(value) for value in names.values()):
        segments = [StoredSegment(str(key), _labels(value)) for key, value in names.items()]
    else:
        raise InputError(
            "A file of names must map labels or file names to ROI names.",
            where=path,
            found="labels and names mixed: "
            + ", ".join(f"{k}: {v!r}"[:40] for k, v in list(names.items())[:4]),
        )
    return tuple(
        s for s in segments if s.labels != (0,) and not (s.name.casefold() == BACKGROUND and 0 in s.labels)
    )


def _is_label(key: object) -> bool:
    text = str(key).removeprefix("-")
    return text.isascii() and text.isdigit() and len(text) < 10


def _labels(value: object) -> tuple[int, ...]:
    """The labels that a value of a table gives; empty where it gives none."""
    items = value if isinstance(value, (list, tuple)) else [value]
    whole = [v for v in items if isinstance(v, int) and not isinstance(v, bool)]
    return tuple(whole) if len(whole) == len(items) else ()


def _text(value: object, key: object, path: Path) -> str:
    """A ROI name; YAML makes `no` and `1` of names that are not in quotes."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            "A ROI name in the file of names is not text.",
            where=path,
            found=f"{key}: {value!r}"[:80],
            fix="write the name in quotation marks",
        )
    return value
