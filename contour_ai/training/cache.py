"""Prepared patients on disk: computed once per content and settings, written as a whole, read by memory mapping.

An image and the ROIs drawn on it are entries of their own: a changed structure set or another choice of ROIs leaves
the image as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contour_ai.files import atomic_file, atomic_folder, content_sha256, write_text
from contour_ai.grid import Grid
from contour_ai.preprocess import Prepared
from contour_ai.training.roi_facts import RoiFacts
from contour_ai.volume import ABSENT, CONTOURED, PSEUDO_LABEL, UNKNOWN, bits_dtype, roi_voxels

S = TypeVar("S", bound=np.generic)

CACHE_FORMAT = 4
"""Changes whenever the same files and settings give other arrays, so that old entries are not taken."""


@dataclass(frozen=True)
class SlicesOf:
    """Some slices of a cached array."""

    path: Path
    first: int
    stop: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """A patient on the model grid, whose axes run superior, posterior, left.

    `hu` (k, i, j) int16, air outside the body; bit r of `bits` (k, i, j) is ROI `rois[r]`; `presence[r]` says
    whether it was contoured. Cached arrays are mapped into memory whenever they are asked for, and closed when they
    are let go: an archive of thousands needs neither their memory nor as many open files.
    """

    patient_id: str
    image: NDArray[np.int16] | Path | SlicesOf
    """`hu`, or the file that holds it."""
    labels: NDArray[np.unsignedinteger] | Path | SlicesOf
    """`bits`, or the file that holds them."""
    rois: tuple[str, ...]
    presence: tuple[bool, ...]
    spacing_mm_kij: tuple[float, float, float]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, RoiFacts] = field(default_factory=dict)
    """What was measured of each ROI that the structure set has, on the CT's own grid."""
    absent: tuple[str, ...] = ()
    """ROIs that are certainly not in this patient: outside the scan, or removed by surgery; none of them contoured."""
    pseudo_labels: tuple[str, ...] = ()
    """ROIs that were not contoured, and whose bits the network has drawn."""

    @property
    def states(self) -> tuple[int, ...]:
        """`UNKNOWN`, `CONTOURED`, `ABSENT` or `PSEUDO_LABEL` of every ROI."""
        return tuple(
            CONTOURED if here else self._state_without_contour(roi)
            for roi, here in zip(self.rois, self.presence, strict=True)
        )

    def _state_without_contour(self, roi: str) -> int:
        if roi in self.absent:
            return ABSENT
        return PSEUDO_LABEL if roi in self.pseudo_labels else UNKNOWN

    @property
    def hu(self) -> NDArray[np.int16]:
        """(k, i, j) Hounsfield units; read-only where cached."""
        array: NDArray[np.int16] = _mapped(self.image)
        return array

    @property
    def bits(self) -> NDArray[np.unsignedinteger]:
        """(k, i, j) one bit a ROI; read-only where cached."""
        array: NDArray[np.unsignedinteger] = _mapped(self.labels)
        return array

    @property
    def is_cut(self) -> bool:
        """Whether these are some of the slices of a cached patient."""
        return isinstance(self.image, SlicesOf)

    def cut(self, first: int, stop: int) -> Case:
        """The same patient, scanned from slice `first` to before `stop`; a ROI that is left without a voxel counts as
        not contoured."""
        cut = replace(self, image=_cut(self.image, first, stop), labels=_cut(self.labels, first, stop))
        return cut.without_empty()

    def whole(self) -> Case:
        """The same patient with all slices; ROIs that were left without a voxel stay not contoured."""
        return replace(self, image=_whole(self.image), labels=_whole(self.labels))

    def without_empty(self) -> Case:
        """The same patient; a ROI without a voxel (outside the body, or too small) counts as not contoured."""
        anywhere = int(np.bitwise_or.reduce(self.bits, axis=None))
        presence = tuple(bool(here and anywhere >> r & 1) for r, here in enumerate(self.presence))
        return replace(self, presence=presence)

    def select(self, rois: tuple[str, ...]) -> Case:
        """The same patient with the ROIs asked for, in their order; those it does not know are not contoured."""
        if rois == self.rois:
            return self
        dtype, old = bits_dtype(len(rois)), self.bits
        bits = np.zeros(old.shape, dtype)
        presence = tuple(name in self.rois and self.presence[self.rois.index(name)] for name in rois)
        for r, name in enumerate(rois):
            if presence[r]:
                here = (old >> old.dtype.type(self.rois.index(name))) & old.dtype.type(1)
                bits |= here.astype(dtype) << dtype.type(r)
        return replace(self, labels=bits, rois=rois, presence=presence)


def _mapped(array: NDArray[S] | Path | SlicesOf) -> NDArray[S]:
    if isinstance(array, SlicesOf):
        mapped: NDArray[S] = np.load(array.path, mmap_mode="r")[array.first : array.stop]
        return mapped
    return np.load(array, mmap_mode="r") if isinstance(array, Path) else array


def _cut(array: NDArray[S] | Path | SlicesOf, first: int, stop: int) -> NDArray[S] | SlicesOf:
    if isinstance(array, Path):
        return SlicesOf(array, first, stop)
    if isinstance(array, SlicesOf):
        return SlicesOf(array.path, array.first + first, min(array.first + stop, array.stop))
    return array[first:stop]


def _whole(array: NDArray[S] | Path | SlicesOf) -> NDArray[S] | Path:
    return array.path if isinstance(array, SlicesOf) else array


def contoured_cm3(cases: Iterable[Case], rois: Sequence[str]) -> dict[str, list[float]]:
    """{ROI: its volumes in cm3 on the model grid, in the patients where it is contoured}; all know these ROIs."""
    volumes: dict[str, list[float]] = {roi: [] for roi in rois}
    for case in cases:
        bits, voxel_cm3 = case.bits, float(np.prod(case.spacing_mm_kij)) / 1000
        for r, roi in enumerate(rois):
            if case.presence[r]:
                volumes[roi].append(np.count_nonzero(roi_voxels(bits, r)) * voxel_cm3)
    return volumes


@dataclass(frozen=True, eq=False)
class Image:
    """A CT on the model grid, and what drawing ROIs on it takes."""

    hu: Path
    """(k, i, j) int16 on `grid`."""
    grid: Grid
    """The model grid."""
    body: NDArray[np.bool_]
    """(k, i, j) of the patient, on the CT's own grid."""


class Digests:
    """Hashes of files by content; those of large series are remembered as long as size and time of every file stay.

    Args:
        cache: where they are remembered.
    """

    FILE = "digests.json"

    def __init__(self, cache: Path) -> None:
        self._path = cache / self.FILE
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._changed = False
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(self._path.read_text(encoding="utf-8"))

    def of_series(self, paths: Iterable[Path]) -> str:
        """`content_hash` of many files, without reading them where they are as they were."""
        paths = list(paths)
        folders = {folder: folder.resolve() for folder in {path.parent for path in paths}}
        stats = [
            (str(folders[path.parent] / path.name), (stat := path.stat()).st_size, stat.st_mtime_ns)
            for path in paths
        ]
        key = hashlib.sha256(json.dumps(sorted(stats)).encode()).hexdigest()[:32]
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = content_hash(paths)
            with self._lock:
                self._known[key] = known
                self._changed = True
        return known

    def save(self) -> None:
        """Remembers them, with those that another process has written in the meantime.

        Raises:
            OutputError: the cache cannot be written.
        """
        if not self._changed:
            return
        known = {**Digests(self._path.parent)._known, **self._known}
        with atomic_file(self._path, overwrite=True, private=True) as temporary:
            write_text(temporary, json.dumps(known, indent=0))
        self._changed = False


def content_hash(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' bytes, whatever their names and order."""
    return content_sha256(paths)


def case_key(content: str, settings: Mapping[str, object]) -> str:
    """The name of a cache entry: a hash of the files' content and of all that decides what is made of it."""
    text = json.dumps([CACHE_FORMAT, content, settings], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_image(cache: Path, key: str) -> Image | None:
    """The image `key`, its voxels still on disk, or None where there is none."""
    folder = cache / key
    if not (folder / "image.npz").is_file():
        return None
    with np.load(folder / "image.npz") as facts:
        shape = tuple(int(n) for n in facts["shape_kij"])
        body_shape = tuple(int(n) for n in facts["body_shape_kij"])
        body = np.unpackbits(facts["body"], count=int(np.prod(body_shape))).reshape(body_shape).astype(bool)
        grid = Grid(
            shape_kij=(shape[0], shape[1], shape[2]),
            positions_lps=facts["positions_lps"],
            step_i_lps=facts["step_i_lps"],
            step_j_lps=facts["step_j_lps"],
        )
    return Image(folder / "hu.npy", grid, body)


def load_slice_digests(image: Path) -> tuple[str, ...] | None:
    """`slice_digests` of the CT of a cached image, the file `hu`; None where an earlier version wrote it."""
    try:
        with np.load(image.with_name("image.npz")) as facts:
            return tuple(str(digest) for digest in facts["slices"]) if "slices" in facts else None
    except OSError:
        return None


def save_image(
    cache: Path, key: str, prepared: Prepared, body: NDArray[np.bool_], slices: Sequence[str] = ()
) -> Image:
    """Writes an image, as a whole or not at all, and gives it back as `load_image` does.

    Args:
        slices: `slice_digests` of the CT.

    Raises:
        OutputError: the cache cannot be written.
    """
    grid = prepared.grid
    with atomic_folder(cache / key, overwrite=True, owned=True, private=True) as folder:
        np.save(folder / "hu.npy", np.ascontiguousarray(prepared.hu))
        np.savez_compressed(
            folder / "image.npz",
            shape_kij=grid.shape_kij,
            positions_lps=grid.positions_lps,
            step_i_lps=grid.step_i_lps,
            step_j_lps=grid.step_j_lps,
            body=np.packbits(body),
            body_shape_kij=body.shape,
            slices=np.array(slices, dtype=np.str_),
        )
    loaded = load_image(cache, key)
    assert loaded is not None
    return loaded


def load_case(cache: Path, key: str) -> Case | None:
    """The patient `key`, its arrays still on disk, or None where it or its image is missing."""
    folder = cache / key
    if not (folder / "case.json").is_file():
        return None
    facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    image = cache / facts["image"] / "hu.npy"
    if not image.is_file():
        return None
    k, i, j = facts["spacing_mm_kij"]
    return Case(
        patient_id=facts["patient_id"],
        image=image,
        labels=folder / "bits.npy",
        rois=tuple(facts["rois"]),
        presence=tuple(facts["presence"]),
        spacing_mm_kij=(k, i, j),
        notes=tuple(facts["notes"]),
        facts={roi: RoiFacts.from_mapping(measured) for roi, measured in facts["facts"].items()},
    )


def save_case(cache: Path, key: str, case: Case, image_key: str) -> Case:
    """Writes the ROIs of a patient, as a whole or not at all, and gives the patient back as `load_case` does.

    Raises:
        OutputError: the cache cannot be written.
    """
    with atomic_folder(cache / key, overwrite=True, owned=True, private=True) as folder:
        np.save(folder / "bits.npy", np.ascontiguousarray(case.bits))
        facts = {
            "patient_id": case.patient_id,
            "image": image_key,
            "rois": case.rois,
            "presence": [bool(p) for p in case.presence],
            "spacing_mm_kij": case.spacing_mm_kij,
            "notes": case.notes,
            "facts": {roi: vars(measured) for roi, measured in case.facts.items()},
        }
        write_text(folder / "case.json", json.dumps(facts, indent=1))
    loaded = load_case(cache, key)
    assert loaded is not None
    return loaded
