"""Stage by stage, what the gain that benchmarks/prediction.py measures is made of."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from usual_prediction import usual_channels, usual_labels, usual_network, usual_reading, usual_structures


def parts(patient: Path, model: str, folder: Path, tta: bool | None) -> None:
    """Stage by stage in one process, the second of two runs of each: what the gain is made of."""
    import torch

    from contour_ai.bundle import load_bundle
    from contour_ai.inference import autocast_dtype
    from contour_ai.pipeline._predict import PredictOptions, load_model, open_patient, predict, run_network
    from contour_ai.preprocess import image_channels

    bundle = load_bundle(model)
    loaded = load_model(bundle, "cpu")
    plain = bundle.build_network("cpu").to(memory_format=torch.contiguous_format)
    ct = usual_reading(patient)
    whole = torch.from_numpy(usual_channels(ct, bundle))[None]
    opened = open_patient(patient, bundle)
    crop = torch.from_numpy(image_channels(opened.prepared.hu, bundle.preprocess))[None]
    dtype = autocast_dtype(torch.device("cpu"))

    def lower_precision(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            return loaded.network(image.contiguous(memory_format=torch.channels_last_3d)).float()

    numbers = itertools.count()
    options = PredictOptions(overlays=False, tta=tta)
    mirror = bundle.mirror_channels if bundle.uses_mirror_tta(tta) else None
    logits = usual_network(whole, plain, mirror)
    labels = usual_labels(logits, ct.GetSize()[::-1])

    def contoured() -> Mapping[str, float]:
        out = folder / f"parts{next(numbers)}"
        return predict(patient, loaded, out, options).timings_s

    def rt_utils_file() -> None:
        usual_structures(patient, bundle, labels, folder / f"parts{next(numbers)}.dcm")

    contoured()
    stages = contoured()
    print(f"voxels: whole resampled CT {whole[0, 0].numel():,}, body crop {crop[0, 0].numel():,}")
    rows = [
        (
            "network: windows, fp32, whole CT (the usual way)",
            timed(lambda: usual_network(whole, plain, mirror)),
        ),
        ("network: windows, fp32, body crop", timed(lambda: usual_network(crop, plain, mirror))),
        (
            f"network: windows, {str(dtype or 'fp32').removeprefix('torch.')}, body crop",
            timed(lambda: usual_network(crop, lower_precision, mirror)),
        ),
        (
            "network: in one piece, body crop (ours)",
            timed(lambda: run_network(opened.prepared, loaded, options)),
        ),
        ("reading: SimpleITK", timed(lambda: usual_reading(patient))),
        ("reading: ours, looking for files included", stages["finding"] + stages["reading"]),
        ("resampling: SimpleITK", timed(lambda: usual_channels(ct, bundle))),
        ("resampling: ours", stages["preprocessing"]),
        ("body: ours only", stages["body"]),
        ("restoring: all channels, argmax", timed(lambda: usual_labels(logits, ct.GetSize()[::-1]))),
        ("restoring: each ROI in its box (ours)", stages["restoring"]),
        ("structure set: rt-utils", timed(rt_utils_file)),
        ("structure set: ours, read back and compared", stages["structure set"]),
    ]
    for name, seconds in rows:
        print(f"{name:52} {seconds:7.2f} s")


def timed(work: Callable[[], object]) -> float:
    """Seconds of the second of two runs."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
