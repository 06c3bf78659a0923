"""Makes the pictures of README.md again (report.png needs a Chromium), of a patient that the model was not trained on:

    contour-ai import-openkbp open-kbp/provided-data openkbp-dicom
    python docs/make_pictures.py openkbp-dicom

in a checkout with contour-ai installed. The patient is one of the public OpenKBP data set (Babier et al., Med Phys
48:5549, 2021), which is de-identified.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from contour_ai import PredictOptions, predict
from contour_ai.bundle import load_bundle

DOCS = Path(__file__).resolve().parent
MODEL = "headneck-openkbp"
PATIENT = "OpenKBP-pt_13"
"""Held back from the training: see MODEL_CARD.md."""
ROI_IN_VIEW = "Parotid_L"


def main() -> None:
    """Predicts the patient and keeps the montage and the overlay through the middle of a ROI."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="what import-openkbp made")
    patient = next(path for path in parser.parse_args().archive.iterdir() if path.name.endswith(PATIENT[8:]))
    with tempfile.TemporaryDirectory() as folder:
        prediction = predict(patient, load_bundle(MODEL), Path(folder), PredictOptions(report=True))
        slices = next(roi.slice_numbers for roi in prediction.rois if roi.name == ROI_IN_VIEW)
        assert slices is not None and prediction.montage is not None
        middle = sum(slices) // 2
        numbered = {int("".join(filter(str.isdigit, p.stem))): p for p in prediction.overlays}
        overlay = numbered[min(numbered, key=lambda n: abs(n - middle))]
        shutil.copyfile(overlay, DOCS / "overlay.png")
        shutil.copyfile(prediction.montage, DOCS / "montage.png")
        picture_of(prediction.montage.parent / "report.html", DOCS / "report.png")


def picture_of(page: Path, picture: Path) -> None:
    """The upper part of a page as a browser shows it, in 256 colours, those of thin contours among them."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")))
    )
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1500,950"]
    options += ["--virtual-time-budget=8000", f"--screenshot={picture}", page.resolve().as_uri()]
    subprocess.run([browser, *options], check=True)
    small = Image.open(picture).convert("RGB").resize((1200, 760), Image.Resampling.LANCZOS)
    small.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        picture, optimize=True
    )


if __name__ == "__main__":
    main()
