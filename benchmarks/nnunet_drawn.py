"""Drawn patients in nnU-Net's own cache format, and the plans for them, for `training.py`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

LEVELS = 4
SPACING_MM = (2.5, 3.8, 3.8)
HU_STATISTICS = {
    "max": 1500.0,
    "mean": 20.0,
    "median": 20.0,
    "min": -1000.0,
    "percentile_00_5": -160.0,
    "percentile_99_5": 240.0,
    "std": 100.0,
}


def write_nnunet_patients(cases: Sequence, options: argparse.Namespace, folder: Path) -> None:  # type: ignore[type-arg]
    """Patients as nnU-Net's preprocessing leaves them: normalised image, label map, places of every label."""
    import numpy as np
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    data = folder / "nnUNetPlans_3d_fullres"
    data.mkdir(parents=True)
    for case in cases:
        image = np.clip(case.hu.astype(np.float32), -160, 240)
        image = ((image - HU_STATISTICS["mean"]) / HU_STATISTICS["std"])[None]
        labels = np.zeros(case.hu.shape, np.int8)
        places = {}
        for r in range(len(case.rois)):
            labels[(case.bits >> r) & 1 > 0] = r + 1
            places[r + 1] = np.argwhere(labels[None] == r + 1)
        block, chunk = comp_blosc2_params(image.shape, tuple(options.patch))
        nnUNetDatasetBlosc2.save_case(
            image,
            labels[None],
            {"class_locations": places, "spacing": list(SPACING_MM)},
            str(data / case.patient_id),
            chunks=chunk,
            blocks=block,
            chunks_seg=chunk,
            blocks_seg=block,
        )
    names = [case.patient_id for case in cases]
    (folder / "splits_final.json").write_text(
        json.dumps([{"train": names, "val": names[:1]}]), encoding="utf-8"
    )


def nnunet_dataset(cases: Sequence) -> dict[str, object]:  # type: ignore[type-arg]
    labels = {"background": 0} | {roi: r for r, roi in enumerate(cases[0].rois, start=1)}
    return {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }


def nnunet_plans(options: argparse.Namespace) -> dict[str, object]:
    """What nnU-Net's planner writes, with the patch, batch and width asked for."""
    features = [options.filters * 2**level for level in range(LEVELS)]
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": LEVELS,
            "features_per_stage": features,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * LEVELS,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (LEVELS - 1),
            "n_conv_per_stage": [2] * LEVELS,
            "n_conv_per_stage_decoder": [2] * (LEVELS - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return {
        "continue_training": False,
        "dataset_name": "Dataset001_Drawn",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(SPACING_MM),
        "original_median_shape_after_transp": [108, 62, 102],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": HU_STATISTICS},
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": options.batch,
                "patch_size": list(options.patch),
                "median_image_size_in_voxels": [108.0, 62.0, 102.0],
                "spacing": list(SPACING_MM),
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
                "architecture": architecture,
                "batch_dice": False,
            }
        },
    }
