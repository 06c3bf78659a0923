"""The usual way of research scripts to contour a CT, compared by `prediction.py`: SimpleITK, MONAI, rt-utils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from contour_ai.bundle import ModelBundle

WINDOW = (96, 96, 96)


def usual_way(patient: Path, model: str, out: Path, tta: bool | None) -> None:
    """Read, resample, sliding windows in fp32, resample all channels back, argmax, rt-utils."""
    import torch

    from contour_ai.bundle import load_bundle

    bundle = load_bundle(model)
    network = bundle.build_network("cpu").float().eval()
    ct = usual_reading(patient)
    mirror = bundle.mirror_channels if bundle.uses_mirror_tta(tta) else None
    logits = usual_network(torch.from_numpy(usual_channels(ct, bundle))[None], network, mirror)
    usual_structures(patient, bundle, usual_labels(logits, ct.GetSize()[::-1]), out)


def usual_reading(patient: Path) -> Any:
    """The CT as SimpleITK's image."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(patient / "ct")))
    return reader.Execute()


def usual_channels(ct: Any, bundle: ModelBundle) -> NDArray[np.float32]:
    """Channels (C, k, i, j) of the whole CT in the model's spacing."""
    import SimpleITK as sitk  # noqa: N813

    from contour_ai.preprocess import image_channels

    k, i, j = bundle.preprocess.spacing_mm_kij
    spacing = (j, i, k)
    size = [
        round(n * mm / target) for n, mm, target in zip(ct.GetSize(), ct.GetSpacing(), spacing, strict=True)
    ]
    place = (ct.GetOrigin(), spacing, ct.GetDirection())
    resampled = sitk.Resample(ct, size, sitk.Transform(), sitk.sitkLinear, *place, -1024, sitk.sitkFloat32)
    return image_channels(sitk.GetArrayFromImage(resampled), bundle.preprocess)


def usual_network(
    image: torch.Tensor,
    network: Callable[[torch.Tensor], torch.Tensor],
    mirror_channels: Sequence[int] | None = None,
) -> torch.Tensor:
    """Overlapping windows; with `mirror_channels`, the mean with the mirror image."""
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        logits = sliding_window_inference(image, WINDOW, 1, network, overlap=0.5, mode="gaussian")
        if mirror_channels is None:
            return logits
        mirrored = sliding_window_inference(image.flip(-1), WINDOW, 1, network, overlap=0.5, mode="gaussian")
        return (logits + mirrored.flip(-1)[:, list(mirror_channels)]) / 2


def usual_labels(logits: torch.Tensor, shape: Sequence[int]) -> NDArray[np.uint8]:
    """All channels on the CT's grid, and the largest wins."""
    import numpy as np
    import torch

    with torch.inference_mode():
        full = torch.nn.functional.interpolate(logits, list(shape), mode="trilinear")[0]
        return torch.cat([torch.zeros_like(full[:1]), full]).argmax(0).numpy().astype(np.uint8)


def usual_structures(patient: Path, bundle: ModelBundle, labels: NDArray[np.uint8], out: Path) -> None:
    """An RTSTRUCT by rt-utils."""
    import numpy as np
    from rt_utils import RTStructBuilder

    structures = RTStructBuilder.create_new(dicom_series_path=str(patient / "ct"))
    for label, roi in enumerate(bundle.rois, start=1):
        mask = np.moveaxis(labels == label, 0, -1)
        if mask.any():
            structures.add_roi(mask=np.ascontiguousarray(mask), name=roi.name, color=list(roi.color))
    structures.save(str(out))
