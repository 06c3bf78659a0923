"""Surfaces of ROIs: triangles in patient coordinates that enclose the voxels' volume; STL and PLY files of them."""

from contour_ai.surfaces.files import SurfaceFiles, SurfaceFormat, write_surfaces
from contour_ai.surfaces.mesh import Mesh, mesh_of_field, mesh_of_mask
from contour_ai.surfaces.reduced import reduced_mesh

__all__ = [
    "Mesh",
    "SurfaceFiles",
    "SurfaceFormat",
    "mesh_of_field",
    "mesh_of_mask",
    "reduced_mesh",
    "write_surfaces",
]
