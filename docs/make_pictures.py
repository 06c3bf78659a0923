"""Makes the pictures of README.md again: `python docs/make_pictures.py` in a checkout with contour-ai installed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from contour_ai.bundle import load_bundle
from contour_ai.pipeline import predict

ROOT = Path(__file__).resolve().parents[1]
PATIENT = ROOT / "sample_data" / "phantom-headneck-01"
MODEL = "phantom-headneck"
ROI_IN_VIEW = "Parotid_L"


def main() -> None:
    """Predicts a sample patient and keeps its montage and the overlay through the middle of a ROI."""
    with tempfile.TemporaryDirectory() as folder:
        prediction = predict(PATIENT, load_bundle(MODEL), Path(folder))
        slices = next(roi.slice_numbers for roi in prediction.rois if roi.name == ROI_IN_VIEW)
        assert slices is not None and prediction.montage is not None
        middle = sum(slices) // 2
        numbered = {int("".join(filter(str.isdigit, p.stem))): p for p in prediction.overlays}
        overlay = numbered[min(numbered, key=lambda n: abs(n - middle))]
        shutil.copyfile(overlay, ROOT / "docs" / "overlay.png")
        shutil.copyfile(prediction.montage, ROOT / "docs" / "montage.png")


if __name__ == "__main__":
    main()
