"""Margins of 30 ROIs on 150 slices of 512 x 512, against SimpleITK's distance map of the whole grid, in one run.

    python benchmarks/derive.py [--margin 5] [--rounds 3] [--peer-rois 3]
    env -u OMP_NUM_THREADS python benchmarks/derive.py      (where the shell sets one thread)

Both get the contours of a structure set and give a mask: contour-ai by `derived.margin` (which gives contours, too),
SimpleITK by the signed Maurer distance map of the mask on the whole grid, with the spacing of the voxels, cut at the
margin. SimpleITK uses all threads that it is given; a few ROIs are enough to know its time, which is the same for each.
plastimatch, where it is installed, does the same in processes (mask in, signed distance map by maurer, threshold, mask
out), of which the processor time counts. Rounds take turns. The volume of a sphere of 20 mm with the margin, on
1 x 1 x 3 mm, says what is exact.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from contour_ai.derived.margin import Margins, with_margins
from contour_ai.derived.region import Region, redrawn
from contour_ai.grid import Grid

GRID = Grid.axial((150, 512, 512), (3.0, 0.9765625, 0.9765625), (-250.0, -250.0, -225.0))
SPHERE_GRID = Grid.axial((50, 120, 120), (3.0, 1.0, 1.0), (-60.0, -60.0, -73.5))


def ellipsoid(grid: Grid, centre: tuple[float, ...], radii: tuple[float, ...]) -> Region:
    """An ellipsoid as contours of 120 points a slice."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    slices = {}
    for k, z in enumerate(grid.positions_lps[:, 2].tolist()):
        rest = 1 - ((z - centre[2]) / radii[2]) ** 2
        if rest > 0:
            x = centre[0] + radii[0] * np.sqrt(rest) * np.cos(angle)
            y = centre[1] + radii[1] * np.sqrt(rest) * np.sin(angle)
            points = np.column_stack([x, y, np.full(len(x), z)])
            slices[k] = [grid.lps_to_index(points)[:, 1:]]
    return redrawn(Region(slices, grid))


def case(number: int) -> list[Region]:
    """ROIs like those of a head and neck: a body, targets, cord, glands, small organs."""
    random = np.random.default_rng(0)
    sizes = [
        (200.0, 120.0, 222.0),
        (60.0, 50.0, 70.0),
        (55.0, 45.0, 60.0),
        (8.0, 8.0, 180.0),
        (15.0, 12.0, 110.0),
    ]
    sizes += [tuple(random.uniform(6, 26, 3)) for _ in range(number - len(sizes))]
    return [
        ellipsoid(GRID, (*random.uniform(-60, 60, 2), 0.0) if n else (0.0, 0.0, 0.0), size)
        for n, size in enumerate(sizes[:number])
    ]


def mask_of(region: Region) -> NDArray[np.bool_]:
    mask = np.zeros(region.grid.shape_kij, dtype=bool)
    box, inside = region.filled
    mask[box] = inside
    return mask


def by_itk(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(grid.spacing_mm[::-1])
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return sitk.GetArrayViewFromImage(distance) <= margin_mm


def by_plastimatch(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    with tempfile.TemporaryDirectory() as name:
        source, distance, grown = (str(Path(name) / f"{n}.mha") for n in ("mask", "distance", "grown"))
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(grid.spacing_mm[::-1])
        sitk.WriteImage(image, source)
        for command in (
            ["dmap", "--input", source, "--output", distance, "--algorithm", "maurer"],
            ["threshold", "--input", distance, "--output", grown, "--below", str(margin_mm)],
        ):
            subprocess.run(["plastimatch", *command], check=True, capture_output=True)
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(grown))) > 0


def processor_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--margin", type=float, default=5.0)
    parser.add_argument("--rois", type=int, default=30)
    parser.add_argument("--peer-rois", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    regions = case(arguments.rois)
    margins = Margins.all_around(arguments.margin)
    ours: list[float] = []
    processor: list[float] = []
    theirs: list[float] = []
    others: list[float] = []
    has_plastimatch = shutil.which("plastimatch") is not None
    for _ in range(arguments.rounds):
        before = time.process_time()
        ours.append(seconds(lambda: [with_margins(r, margins) for r in regions]))
        processor.append(time.process_time() - before)
        some = [mask_of(r) for r in regions[1 : 1 + arguments.peer_rois]]
        spent = seconds(lambda some=some: [by_itk(m, GRID, arguments.margin) for m in some])
        theirs.append(spent / len(some) * len(regions))
        if has_plastimatch:
            before = processor_seconds_of_children()
            by_plastimatch(some[0], GRID, arguments.margin)
            others.append((processor_seconds_of_children() - before) * len(regions))
    one, two = statistics.median(ours), statistics.median(theirs)
    print(f"{len(regions)} margins of {arguments.margin:g} mm on {GRID}")
    print(f"  contour-ai      {one:7.2f} s  (processor {statistics.median(processor):.2f} s)")
    print(
        f"  SimpleITK       {two:7.2f} s  ({arguments.peer_rois} ROIs measured, {two / one:.0f} times as long)"
    )
    if others:
        mine, other = statistics.median(processor), statistics.median(others)
        print(
            f"  plastimatch     {other:7.2f} s of processor time (1 ROI measured, {other / mine:.0f} times as much)"
        )
    ball = ellipsoid(SPHERE_GRID, (0.3, -0.2, 0.7), (20.0, 20.0, 20.0))
    wanted = 4 / 3 * np.pi * (20 + arguments.margin) ** 3 / 1000
    itk_cm3 = by_itk(mask_of(ball), SPHERE_GRID, arguments.margin).sum() * 3.0 / 1000
    print(f"sphere of 20 mm with {arguments.margin:g} mm: {wanted:.2f} cm3")
    volumes = [("contour-ai", with_margins(ball, margins).volume_cm3), ("SimpleITK", itk_cm3)]
    if has_plastimatch:
        grown = by_plastimatch(mask_of(ball), SPHERE_GRID, arguments.margin)
        volumes.append(("plastimatch", grown.sum() * 3.0 / 1000))
    for name, volume in volumes:
        print(f"  {name:<12} {volume:7.2f} cm3  ({100 * (volume / wanted - 1):+.2f} %)")


if __name__ == "__main__":
    main()
