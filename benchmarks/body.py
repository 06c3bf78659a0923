"""The body's outline beside devices drawn around real patients: the table of docs/body.md.

    python benchmarks/body.py openkbp/provided-data --patients pt_1,pt_10 [--devices bolus,neck rest] [--pixel-mm 2]

Each patient is scanned again (`contour_ai.sample.variants`) with one device after the other, 2 mm from the skin, in
touch, and pressed in by 3 mm, and the outline found is compared with that of the patient alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np

from contour_ai.preprocess import body_mask
from contour_ai.sample.devices import DEVICES
from contour_ai.sample.openkbp import find_openkbp_patients, read_openkbp
from contour_ai.sample.variants import Scan, scanned

GAPS_MM = (2.0, 0.0, -3.0)
MASK = "mask"
"""Over 1.5 mm of air, whatever the gap is."""
FIELD_MM = 512.0


def measured(patient: Path, device: str, gap_mm: float, scan: Scan) -> tuple[float, float, float, float]:
    """Too much and lost in cm3, Dice, and seconds, of one device beside one patient."""
    source = read_openkbp(patient)
    found = scanned(source.volume, source.structures, scan, seed=1)
    begun = time.process_time()
    body = body_mask(found.volume)
    seconds = time.process_time() - begun
    voxel_cm3 = float(np.prod(found.volume.grid.spacing_mm)) / 1000
    extra, lost = int(np.count_nonzero(body & ~found.body)), int(np.count_nonzero(found.body & ~body))
    both = int(np.count_nonzero(found.body)) + int(np.count_nonzero(body))
    dice = (both - extra - lost) / both
    print(f"{patient.name} {device} {gap_mm:+g} mm: {extra * voxel_cm3:.0f} cm3 too much, {lost * voxel_cm3:.0f} lost, "
          f"Dice {dice:.4f}, {seconds:.2f} s", file=sys.stderr, flush=True)  # fmt: skip
    return extra * voxel_cm3, lost * voxel_cm3, dice, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--patients", required=True, help="names in the data set, comma-separated")
    parser.add_argument("--devices", default=",".join([*DEVICES, MASK]))
    parser.add_argument("--gaps-mm", default=",".join(map(str, GAPS_MM)))
    parser.add_argument("--pixel-mm", type=float, default=2.0)
    parser.add_argument("--device-hu", type=float, default=80.0)
    args = parser.parse_args()
    every = find_openkbp_patients(args.data)
    gaps = [float(gap) for gap in args.gaps_mm.split(",")]
    heads = " | ".join(f"{gap:+g} mm" for gap in gaps)
    print(f"| device | too much, cm3: {heads} | patient lost, cm3 | least Dice |")
    print("|---" * (len(gaps) + 3) + "|")
    for device in args.devices.split(","):
        worst = dict.fromkeys(gaps, 0.0)
        lost, least = 0.0, 1.0
        for name, gap in itertools.product(args.patients.split(","), gaps):
            scan = Scan(
                pixel_mm=args.pixel_mm,
                slice_mm=3.0,
                matrix=round(FIELD_MM / args.pixel_mm),
                mask=device == MASK,
                head_rest=False,
                devices=() if device == MASK else (device,),
                device_gap_mm=gap,
                device_hu=args.device_hu,
            )
            extra, gone, dice, _ = measured(every[name], device, gap, scan)
            worst[gap], lost, least = max(worst[gap], extra), max(lost, gone), min(least, dice)
        cells = " | ".join(f"{worst[gap]:.0f}" for gap in gaps)
        print(f"| {device} | {cells} | {lost:.0f} | {least:.3f} |", flush=True)


if __name__ == "__main__":
    main()
