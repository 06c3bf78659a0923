"""Masks in files of other tools (NumPy, NIfTI, NRRD) to and from a CT's own voxel grid."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from contour_ai.deflate import FASTEST, deflated
from contour_ai.errors import GeometryError, InputError
from contour_ai.files import atomic_file, atomic_folder, safe_name
from contour_ai.grid import Grid

log = logging.getLogger(__name__)

MaskFormat = Literal["npz", "nifti", "nrrd"]
OnNote = Callable[[str], None]
Mask = NDArray[np.bool_]

SUFFIXES: Mapping[str, str] = {"nifti": ".nii.gz", "nrrd": ".nrrd"}
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
NAMES_FILE = "names.yaml"
"""In a folder of masks: {file name: ROI name}, or {file name: {label: ROI name}}."""

LATTICE_TOL = 0.05
"""Voxels: image files store positions as float32 or with few digits; nearer than this counts as the same place."""

INSIDE_CT = 0.5
"""Share of a mask that must lie inside the CT; below, the mask is of another patient's space."""

SAMPLE = 100_000


# -- writing -----------------------------------------------------------------------------------------------------


def save_masks(
    path: Path,
    masks: Iterable[tuple[str, Mask]],
    grid: Grid,
    *,
    format: MaskFormat = "npz",
    overwrite: bool = False,
) -> dict[str, Path]:
    """Writes masks (k, i, j) of `grid`, one in memory at a time; returns {ROI name: its file}.

    ``npz`` is one file with an array for every ROI name; ``nifti`` and ``nrrd`` are a folder with a file for every ROI,
    and `NAMES_FILE` with the ROI names, as file names cannot have all characters.

    Raises:
        GeometryError: image formats need equally spaced slices without shear.
        OutputError: `path` exists and `overwrite` is False, or it cannot be written.
    """
    path = Path(path)
    if format == "npz":
        with atomic_file(path, overwrite=overwrite) as temporary:
            return dict.fromkeys(_write_npz(temporary, masks), path)
    if not grid.is_regular:
        raise GeometryError(
            f"{format} files cannot hold these slices.",
            where=path,
            found="sheared slices (gantry tilt)" if grid.is_sheared else "unequal slice spacing",
            expected="equally spaced slices without shear",
            fix="use --format npz, which is on the CT's own voxels",
        )
    with atomic_folder(path, overwrite=overwrite) as folder:
        names = _write_images(folder, masks, grid, SUFFIXES[format])
    return {name: path / file for file, name in names.items()}


def _write_npz(path: Path, masks: Iterable[tuple[str, Mask]]) -> list[str]:
    names = []
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, mask in masks:
            array = np.ascontiguousarray(mask, dtype=bool)
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
            _add_deflated(archive, file, f"{name}.npy", header.getvalue(), array)
            names.append(name)
    return names


def _add_deflated(archive: zipfile.ZipFile, file: BinaryIO, name: str, start: bytes, data: Mask) -> None:
    """Adds an entry of `start` and `data` to an archive in `file`, much faster than `zipfile` compresses."""
    parts, crc = deflated(start, data)
    # A fixed date, so that the same masks give the same bytes.
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    with archive.open(entry, "w", force_zip64=True) as stream:
        stream.writelines(parts)
    end = file.tell()
    entry.compress_type, entry.CRC, entry.file_size = zipfile.ZIP_DEFLATED, crc, len(start) + data.nbytes
    file.seek(entry.header_offset)
    file.write(entry.FileHeader(zip64=True))
    file.seek(end)


def _write_images(folder: Path, masks: Iterable[tuple[str, Mask]], grid: Grid, suffix: str) -> dict[str, str]:
    """{file name: ROI name}."""
    import SimpleITK as sitk  # noqa: N813 - its customary name

    names: dict[str, str] = {}
    taken: set[str] = set()
    for name, mask in masks:
        stem, n = safe_name(name), 1
        while stem.casefold() in taken:  # file systems may ignore case
            n += 1
            stem = f"{safe_name(name)}_{n}"
        taken.add(stem.casefold())
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        _place_image(image, grid)
        sitk.WriteImage(image, str(folder / f"{stem}{suffix}"), useCompression=True, compressionLevel=FASTEST)
        names[f"{stem}{suffix}"] = name
    (folder / NAMES_FILE).write_text(
        yaml.safe_dump(names, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    return names


def _place_image(image: Any, grid: Grid) -> None:
    """SimpleITK's axes are (x, y, z) = (j, i, k), its world LPS."""
    columns = grid.affine[:3, [2, 1, 0]]
    lengths = np.linalg.norm(columns, axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((columns / lengths).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())


# -- reading -----------------------------------------------------------------------------------------------------


def read_masks(source: Path, grid: Grid, *, on_note: OnNote | None = None) -> Iterator[tuple[str, Mask]]:
    """(ROI name, mask (k, i, j) on `grid`) of a ``.npz``, an image file, or a folder of image files, one at a time.

    Images whose voxels are those of the grid (in any axis order, also a part of it) are taken voxel by voxel; others
    are resampled, which `on_note` is told (without it, the log).

    Raises:
        InputError: nothing to read, a damaged file, several labels without names, or two masks of one name.
        GeometryError: an array of another shape, or masks outside the CT.
    """
    source = Path(source)
    note = on_note or log.warning
    if not source.exists():
        raise InputError("There are no masks here.", where=source, found="no such file or folder")
    taken: set[str] = set()
    for name, mask in _npz(source, grid) if source.suffix == ".npz" else _images(source, grid, note):
        if name in taken:
            raise InputError(
                "Two masks have the same ROI name.", where=source, found=name, fix="rename one of them"
            )
        taken.add(name)
        yield name, mask
    if not taken:
        raise InputError(
            "There are no masks here.", where=source, expected=f".npz or {', '.join(IMAGE_SUFFIXES)}"
        )


def _npz(path: Path, grid: Grid) -> Iterator[tuple[str, Mask]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                yield name, _mask_array(archive[name], grid, path, name)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            "The .npz file cannot be read.",
            where=path,
            found=error,
            expected="boolean arrays (k, i, j), one for every ROI name",
        ) from error


def _mask_array(array: NDArray[np.generic], grid: Grid, path: Path, name: str) -> Mask:
    if array.shape != grid.shape_kij:
        raise GeometryError(
            "A mask has another shape than the CT.",
            where=f"{path}, {name}",
            found=array.shape,
            expected=f"{grid.shape_kij} (slices, rows, columns)",
            fix="give masks on the CT's own voxels, or NIfTI/NRRD files, which say where they lie",
        )
    return _boolean(array, f"{path}, {name}")


def _boolean(array: NDArray[np.generic], where: str) -> Mask:
    if array.dtype == np.bool_:
        return array.astype(np.bool_, copy=False)
    if array.dtype.kind not in "uif":
        raise InputError("A mask must be boolean or 0 and 1.", where=where, found=array.dtype)
    mask = array != 0
    other = mask & (array != array.dtype.type(1))
    if other.any() and len(np.unique(array[mask])) > 1:  # 0 and 255 are fine
        raise InputError(
            "A mask must be boolean or 0 and 1.",
            where=where,
            found=f"values from {array.min()} to {array.max()}",
            fix="threshold it, or give a file of names for its labels",
        )
    return mask


@dataclass(frozen=True, eq=False)
class _Image:
    """Voxels (k, i, j) of an image file, and the matrix from (k, i, j, 1) to LPS mm."""

    array: NDArray[np.generic]
    affine: NDArray[np.float64]


def _images(source: Path, grid: Grid, note: OnNote) -> Iterator[tuple[str, Mask]]:
    names = _names_beside(source)
    order = {file: n for n, file in enumerate(names)}  # as they were written, the others by name
    files = [source] if source.is_file() else [p for p in source.iterdir() if _stem(p) is not None]
    files.sort(key=lambda p: (order.get(p.name, len(order)), p.name))
    for path in files:
        image = _read_image(path)
        for name, array in _labels(image.array, path, names):
            yield name, _on_grid(_Image(array, image.affine), grid, f"{path}, {name}", note)


def _stem(path: Path) -> str | None:
    """File name without the suffix of an image, None for other files."""
    suffix = next((s for s in IMAGE_SUFFIXES if path.name.lower().endswith(s)), None)
    return path.name[: -len(suffix)] if suffix and not path.name.startswith(".") else None


def _read_image(path: Path) -> _Image:
    import SimpleITK as sitk  # noqa: N813 - its customary name

    if _stem(path) is None:
        raise InputError("This is no mask file.", where=path, expected=f".npz or {', '.join(IMAGE_SUFFIXES)}")
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError("The mask file cannot be read.", where=path, found=reason) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "A mask file must hold one volume.",
            where=path,
            found=f"{image.GetDimension()} dimensions, {image.GetNumberOfComponentsPerPixel()} values a voxel",
        )
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return _Image(sitk.GetArrayFromImage(image), affine)


def _names_beside(source: Path) -> dict[str, Any]:
    """Names for files and labels: in a folder `NAMES_FILE`, beside a file one of the same stem, YAML or JSON."""
    folder = source if source.is_dir() else source.parent
    stems = ["names"] if source.is_dir() else [f"{_stem(source)}.names", str(_stem(source)), "names"]
    for path in (folder / f"{stem}{suffix}" for stem in stems for suffix in (".yaml", ".yml", ".json")):
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            names = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError("The file of names cannot be read.", where=path, found=error) from error
        if not isinstance(names, dict):
            raise InputError(
                "A file of names must map labels or file names to ROI names.",
                where=path,
                found=type(names).__name__,
            )
        return {str(key): value for key, value in names.items()}
    return {}


def _labels(
    array: NDArray[np.generic], path: Path, names: Mapping[str, Any]
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """(ROI name, mask) of every label in a file; labels without voxels too, where they have a name."""
    own = names.get(path.name)
    if isinstance(own, str):
        yield own, _boolean(array, str(path))
        return
    table = _label_table(own if isinstance(own, dict) else names)
    if not table:
        values = np.unique(array)
        if len(values[values != 0]) > 1:
            raise InputError(
                "The file has several labels, but nothing says which ROIs they are.",
                where=path,
                found=f"labels {', '.join(str(v) for v in values[values != 0][:8])}",
                fix=f"write {_stem(path)}.names.yaml beside it, with a line 'label: ROI name' for each",
            )
        yield str(_stem(path)), _boolean(array, str(path))
        return
    unnamed = sorted(set(np.unique(array).tolist()) - set(table) - {0})
    if unnamed:
        raise InputError(
            "The file has labels without a name.",
            where=path,
            found=unnamed,
            fix="add them to the file of names",
        )
    for label, name in table.items():
        yield name, array == label


def _label_table(names: Mapping[str, Any]) -> dict[int, str]:
    """{label: ROI name} from {label: name} or {name: label}, without the background; empty if it is neither."""
    if all(str(k).lstrip("-").isdigit() for k in names):
        pairs = {int(k): str(v) for k, v in names.items()}
    elif all(isinstance(v, int) for v in names.values()):
        pairs = {int(v): str(k) for k, v in names.items()}
    else:
        return {}
    return {label: name for label, name in pairs.items() if label != 0}


# -- bringing to the grid ----------------------------------------------------------------------------------------


def _on_grid(image: _Image, grid: Grid, where: str, note: OnNote) -> Mask:
    voxels = int(np.count_nonzero(image.array))
    pasted = _pasted(image, grid)
    if pasted is not None:
        outside = voxels - int(np.count_nonzero(pasted))
        _refuse_elsewhere(image, grid, outside / max(voxels, 1), where)
        if outside:
            note(f"{where}: {outside} voxels lie outside the CT and are left out")
        return pasted
    share = _share_outside(image, grid)
    _refuse_elsewhere(image, grid, share, where)
    note(
        f"{where}: the mask is on another grid than the CT ({_spacing(image)} instead of "
        f"{_mm(np.array(grid.spacing_mm))} mm) and was resampled"
        + (f"; {100 * share:.0f} % of it lies outside the CT" if share else "")
    )
    return _resampled(image, grid)


def _pasted(image: _Image, grid: Grid) -> Mask | None:
    """The mask on the grid where both have the same voxels, in any axis order; one may be a part of the other."""
    if not grid.is_regular:
        return None
    to_grid = np.linalg.solve(grid.affine, image.affine)
    matrix, offset = to_grid[:3, :3], to_grid[:3, 3]
    sizes = np.array(image.array.shape)
    for axis in np.flatnonzero(sizes == 1).tolist():  # a single slice has no spacing
        matrix[:, axis] /= np.abs(matrix[:, axis]).max()
    signed, start = np.rint(matrix), np.rint(offset).astype(int)
    drift = np.abs(matrix - signed) @ (sizes - 1) + np.abs(offset - start)
    if (
        drift.max() > LATTICE_TOL
        or not (np.abs(signed).sum(axis=0) == 1).all()
        or abs(round(np.linalg.det(signed))) != 1
    ):
        return None
    axes = np.abs(signed).argmax(axis=1)  # of the image, for every axis of the grid
    array = np.transpose(image.array != 0, axes)
    for g in range(3):
        if signed[g, axes[g]] < 0:
            array = np.flip(array, g)
            start[g] -= array.shape[g] - 1
    mask = np.zeros(grid.shape_kij, dtype=bool)
    low = np.clip(start, 0, grid.shape_kij)
    high = np.maximum(np.clip(start + array.shape, 0, grid.shape_kij), low)
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    if (high > low).all():
        mask[target] = array[source]
    return mask


def _share_outside(image: _Image, grid: Grid) -> float:
    """Share of the mask's voxels that lie outside the CT, from a sample of at most `SAMPLE` of them."""
    flat = np.flatnonzero(image.array)
    flat = flat[:: max(1, len(flat) // SAMPLE)]
    index = np.stack(np.unravel_index(flat, image.array.shape), axis=1)
    at = grid.lps_to_index(index @ image.affine[:3, :3].T + image.affine[:3, 3])
    outside = np.any((at < -0.5) | (at > np.array(grid.shape_kij) - 0.5), axis=1)
    return float(outside.mean()) if len(outside) else 0.0


def _refuse_elsewhere(image: _Image, grid: Grid, share_outside: float, where: str) -> None:
    if share_outside <= 1 - INSIDE_CT:
        return
    middle = np.array([np.mean(axis) for axis in np.nonzero(image.array)])
    raise GeometryError(
        "The mask lies outside the CT: it belongs to another patient or frame of reference.",
        where=where,
        found=f"{100 * share_outside:.0f} % of it outside, around "
        f"{_mm(image.affine[:3, :3] @ middle + image.affine[:3, 3])} mm",
        expected=f"around {_mm(grid.index_to_lps((np.array(grid.shape_kij) - 1) / 2))} mm",
        fix="give masks that were made on this CT",
    )


def _resampled(image: _Image, grid: Grid) -> Mask:
    """Linear between the image's voxels, at least one half counts as inside; slice by slice, at each slice's place."""
    from scipy import ndimage

    inverse = np.linalg.inv(image.affine)
    field = (image.array != 0).astype(np.float32)
    mask = np.zeros(grid.shape_kij, dtype=bool)
    ij = np.stack(np.meshgrid(*map(np.arange, grid.shape_kij[1:]), indexing="ij"), axis=-1)
    for k in range(grid.shape_kij[0]):
        plane = grid.positions_lps[k] + ij[..., :1] * grid.step_i_lps + ij[..., 1:] * grid.step_j_lps
        index = plane @ inverse[:3, :3].T + inverse[:3, 3]
        mask[k] = ndimage.map_coordinates(field, np.moveaxis(index, -1, 0), order=1, cval=0.0) >= 0.5
    return mask


def _mm(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in values) + ")"


def _spacing(image: _Image) -> str:
    return _mm(np.linalg.norm(image.affine[:3, :3], axis=0))
