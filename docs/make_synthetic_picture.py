"""Makes the picture of docs/synthetic.md again:

    contour-ai synthesize label-maps synthetic --count 8
    python docs/make_synthetic_picture.py synthetic

in a checkout with contour-ai installed: a slice of each of the first eight patients that show a bladder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.structures import roi_info

DOCS = Path(__file__).resolve().parent
TILES, COLUMNS = 8, 4
TILE_PX = (240, 180)
WINDOW_HU = (-160, 240)


def tile_of(folder: Path) -> Image.Image | None:
    """The slice through the middle of the bladder's lower half, with contours; None where there is no bladder."""
    ct = read_ct(folder / "ct")
    assert ct.volume is not None
    structures = read_structures(folder / "RS.dcm", ct)
    if "Bladder" not in structures.contoured():
        return None
    ks = np.flatnonzero(structures.mask("Bladder").any(axis=(1, 2)))
    k = int(ks[len(ks) // 4])
    low, high = WINDOW_HU
    grey = np.clip((ct.volume.hu[k].astype(float) - low) / (high - low), 0, 1) * 255
    mm = ct.volume.grid.spacing_mm[1]
    scale = min(TILE_PX[0] / grey.shape[1], TILE_PX[1] / grey.shape[0], 1.6 * mm)
    picture = np.stack([ndimage.zoom(grey, scale, order=1)] * 3, axis=-1)
    for name in structures.contoured():
        if name != "External":
            mask = ndimage.zoom(structures.mask(name)[k].astype(float), scale, order=1) > 0.5
            picture[mask & ~ndimage.binary_erosion(mask)] = roi_info(name).color
    tile = Image.new("RGB", TILE_PX)
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    tile.paste(image, ((TILE_PX[0] - image.width) // 2, (TILE_PX[1] - image.height) // 2))
    return tile


def main() -> None:
    """Puts the tiles together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="what synthesize made")
    folders = sorted(p for p in parser.parse_args().archive.iterdir() if (p / "RS.dcm").is_file())
    tiles = [tile for tile in map(tile_of, folders) if tile is not None][:TILES]
    rows = -(-len(tiles) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * TILE_PX[0], rows * TILE_PX[1]))
    for n, tile in enumerate(tiles):
        picture.paste(tile, (n % COLUMNS * TILE_PX[0], n // COLUMNS * TILE_PX[1]))
    picture.save(DOCS / "synthetic.png", optimize=True)


if __name__ == "__main__":
    main()
