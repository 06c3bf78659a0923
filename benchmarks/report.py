"""The report of one patient: how large it is, how long it takes to write, and to open in a browser.

    python benchmarks/report.py [folder for the page]

A drawn pelvis of 512 x 512 x 150 voxels that fills half of the image, with noise of 25 HU as a scanner's: more than
most planning CT need. Seven ROIs with prediction and reference. The browser is a headless Chromium, where there is one;
its processor time tells a slow page from a busy machine.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import ndimage

from contour_ai.grid import Grid
from contour_ai.polygons import stack_to_polygons
from contour_ai.report.patient import PatientPage, ShownRoi, write_patient_report
from contour_ai.structures import roi_info
from contour_ai.volume import Volume

SHAPE = (150, 512, 512)
GRID = Grid.axial(SHAPE, (3.0, 0.9766, 0.9766))
NOISE_HU = 25
ELLIPSOIDS = {
    "Body": ((75, 256, 256), (76, 170, 250)),
    "Bladder": ((70, 220, 256), (18, 40, 50)),
    "Rectum": ((55, 320, 256), (25, 22, 20)),
    "Prostate": ((50, 260, 256), (10, 20, 22)),
    "Femur_Head_L": ((60, 255, 370), (10, 25, 25)),
    "Femur_Head_R": ((60, 255, 142), (10, 25, 25)),
    "SeminalVes": ((62, 285, 256), (6, 10, 25)),
}


def ellipsoid(centre: tuple[int, ...], radii: tuple[int, ...], moved: int = 0) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum(((a - c - moved) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) < 1


def patient() -> PatientPage:
    noise = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.3, 0.6, 0.6))
    hu = np.where(ellipsoid(*ELLIPSOIDS["Body"]), 20, -1000) + noise * (NOISE_HU / noise.std())
    rois = [
        ShownRoi(
            info=roi_info(name),
            predicted=stack_to_polygons(ellipsoid(c, r)),
            reference=stack_to_polygons(ellipsoid(c, r, 1)),
            metrics=None,
            volume_cm3=1.0,
        )
        for name, (c, r) in ELLIPSOIDS.items()
    ]
    return PatientPage(title="Benchmark", subtitle="", volume=Volume(hu.astype(np.int16), GRID), rois=rois)


def main() -> None:
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "report"))
    from browser import browser, find_browser

    page = patient()
    with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        path = Path(sys.argv[1] if len(sys.argv) > 1 else temporary) / "report.html"
        start = time.perf_counter()
        write_patient_report(path, page, overwrite=True)
        print(f"written in {time.perf_counter() - start:.1f} s: {path.stat().st_size / 1e6:.1f} MB")
        if find_browser() is None:
            return
        with browser(Path(temporary) / "profile") as tab:
            before = tab.processor_s()
            tab.open(path)
            tab.wait("document.body?.dataset.ready")
            shown, ready = (int(tab.run(f"document.body.dataset.{name}")) for name in ("shown", "ready"))
            busy_s = tab.processor_s() - before
        print(
            f"first slice after {shown / 1000:.2f} s, all slices after {ready / 1000:.2f} s; processor {busy_s:.1f} s"
        )


if __name__ == "__main__":
    main()
