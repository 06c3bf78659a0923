"""STL and PLY files of surfaces, binary, in LPS mm, with the ROI's colour: one file per ROI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from contour_ai.errors import OutputError
from contour_ai.files import private_file, safe_name
from contour_ai.structures import RoiInfo
from contour_ai.surfaces.mesh import Mesh
from contour_ai.visible_text import visible

SurfaceFormat = Literal["stl", "ply"]

STL_HEADER_BYTES = 80
STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
PLY_VERTEX = np.dtype([("place", "<f4", 3), ("color", "u1", 3)])
PLY_FACE = np.dtype([("count", "u1"), ("vertices", "<i4", 3)])


@dataclass(frozen=True)
class SurfaceFiles:
    """What was written: {ROI: its file}, and the volume in cm3 that each surface encloses; ROIs without a voxel."""

    paths: dict[str, Path]
    volumes_cm3: dict[str, float]
    empty: tuple[str, ...]


def write_surfaces(
    folder: Path, surfaces: Iterable[tuple[RoiInfo, Mesh]], format: SurfaceFormat
) -> SurfaceFiles:
    """Writes a file for every ROI into a folder that exists; file names are those of the ROIs made safe.

    Raises:
        OutputError: a file cannot be written.
    """
    paths: dict[str, Path] = {}
    volumes: dict[str, float] = {}
    empty: list[str] = []
    taken: set[str] = set()
    for info, mesh in surfaces:
        if not len(mesh.faces):
            empty.append(info.name)
            continue
        stem, n = safe_name(info.name), 1
        while stem.casefold() in taken:  # file systems may ignore case
            n += 1
            stem = f"{safe_name(info.name)}_{n}"
        taken.add(stem.casefold())
        paths[info.name] = write_surface(folder / f"{stem}.{format}", mesh, info, format)
        volumes[info.name] = mesh.volume_cm3
    return SurfaceFiles(paths, volumes, tuple(empty))


def write_surface(path: Path, mesh: Mesh, info: RoiInfo, format: SurfaceFormat) -> Path:
    """Writes one surface, for its owner alone.

    Raises:
        OutputError: the file cannot be written.
    """
    content: Callable[[Mesh, RoiInfo], bytes] = {"stl": stl_bytes, "ply": ply_bytes}[format]
    try:
        private_file(path).write_bytes(content(mesh, info))
    except OSError as error:
        raise OutputError("The surface cannot be written.", where=path, found=str(error)) from error
    return path


def stl_bytes(mesh: Mesh, info: RoiInfo) -> bytes:
    """Binary STL; the header has ``COLOR=`` with red, green, blue, opacity, which some programs read."""
    # A header that begins with "solid" is taken for text; COLOR= is followed by four bytes.
    name = _one_line(info.name).encode("ascii", "replace")[:40]
    header = b"COLOR=" + bytes((*info.color, 255)) + b" LPS mm " + name
    corners = mesh.vertices_lps[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    triangles = np.zeros(len(mesh.faces), STL_TRIANGLE)
    triangles["normal"] = normals / np.where(lengths > 0, lengths, 1)
    triangles["corners"] = corners
    count = np.array(len(triangles), "<u4").tobytes()
    return header.ljust(STL_HEADER_BYTES, b" ") + count + triangles.tobytes()


def ply_bytes(mesh: Mesh, info: RoiInfo) -> bytes:
    """Binary little-endian PLY; every vertex has the ROI's colour."""
    header = "\n".join(
        [
            "ply",
            "format binary_little_endian 1.0",
            f"comment ROI {_one_line(info.name)}",
            "comment DICOM patient coordinates (LPS), mm",
            f"element vertex {len(mesh.vertices_lps)}",
            *(f"property float {axis}" for axis in "xyz"),
            *(f"property uchar {color}" for color in ("red", "green", "blue")),
            f"element face {len(mesh.faces)}",
            "property list uchar int vertex_indices",
            "end_header\n",
        ]
    )
    vertices = np.zeros(len(mesh.vertices_lps), PLY_VERTEX)
    vertices["place"], vertices["color"] = mesh.vertices_lps, info.color
    faces = np.zeros(len(mesh.faces), PLY_FACE)
    faces["count"], faces["vertices"] = 3, mesh.faces
    return header.encode("ascii", "replace") + vertices.tobytes() + faces.tobytes()


def _one_line(name: str) -> str:
    return " ".join(visible(name).split())
