"""Masks in files of other tools (NumPy, NIfTI, NRRD, MetaImage) to and from a CT's own voxel grid.

Formats are read and written here, without ITK: it fills a truncated file with zeros, refuses sheared matrices and
loses the names in a header.
"""

from __future__ import annotations

from contour_ai.mask_files.labels import NAMES_FILE
from contour_ai.mask_files.reading import IMAGE_SUFFIXES, read_masks
from contour_ai.mask_files.writing import SUFFIXES, MaskFormat, save_masks

__all__ = ["IMAGE_SUFFIXES", "NAMES_FILE", "SUFFIXES", "MaskFormat", "read_masks", "save_masks"]
