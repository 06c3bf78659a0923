"""Gives a model a second reader, trained on the patients that the model was trained on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from contour_ai.bundle import ModelBundle, add_second_reader
from contour_ai.errors import ConfigError, ModelError
from contour_ai.files import only_one, private_folder
from contour_ai.pipeline._train.second_reader import FOLDER, second_job, second_steps, trained_reader
from contour_ai.pipeline.archive import find_sources
from contour_ai.pipeline.calibration import CalibrationOptions, prepared_sides
from contour_ai.pipeline.card import model_card
from contour_ai.progress import OnProgress, no_progress
from contour_ai.training.config import TrainConfig
from contour_ai.training.overlap import exclusive_pairs
from contour_ai.training.plan import Plan
from contour_ai.training.threads import let_waiting_threads_sleep


@dataclass(frozen=True, kw_only=True)
class SecondReaderOptions:
    """What `with_second_reader` can be told besides model, archive and run folder."""

    archive: CalibrationOptions
    """With the splits of the training: patients held back from the model are held back from its second reader."""
    config: TrainConfig
    """Of the training; `second_reader` says what is made."""
    time_budget_s: float | None = None
    """End in this time from the first step on; None for `second_reader.steps`."""


def with_second_reader(
    bundle: ModelBundle,
    data_dir: Path,
    run_dir: Path,
    options: SecondReaderOptions,
    on_progress: OnProgress = no_progress,
) -> ModelBundle:
    """Trains a second reader and writes it into the bundle and its card; the weights of the model stay as they are.

    A training that was stopped goes on where it was.

    Args:
        run_dir: `run_dir`/second_reader holds its checkpoints.

    Raises:
        InputError: there is no usable patient.
        ConfigError: no splits of a training, or those of other patients.
        ModelError: the network found too little to be kept; the checkpoint is of another training.
        TrainingStoppedError: it was asked to stop, and is saved.
    """
    if options.archive.splits is None:
        raise ConfigError(
            "A second reader is trained on the patients that the model was trained on, and no others.",
            found="no splits.json",
            fix="name the run folder of the training with --run",
        )
    let_waiting_threads_sleep()  # before torch is imported
    from contour_ai.bundle import InferenceSettings
    from contour_ai.inference import choose_device
    from contour_ai.training.denormals import denormals_flushed
    from contour_ai.training.distributed import Processes
    from contour_ai.training.job import Job

    device = choose_device(options.archive.device)
    folder = private_folder(run_dir / FOLDER)
    another = only_one(
        folder, what="Another training is at work in this folder.", fix="wait until it has ended"
    )
    with tempfile.TemporaryDirectory() as temporary, another, denormals_flushed():
        sources = find_sources(
            data_dir,
            options.archive.roi_map,
            on_progress,
            wanted=bundle.roi_names,
            structure_set=options.archive.structure_set,
        )
        training, held_back = prepared_sides(bundle, sources, options.archive, Path(temporary), on_progress)
        plan = Plan(
            rois=bundle.roi_names,
            settings=bundle.preprocess,
            network=bundle.network,
            patch_kij=bundle.inference.window_kij,
            batch_size=1,
            whole_body=False,
            flip_pairs=tuple(bundle.data.flip_pairs or ()),
        )
        loss = options.config.loss
        exclusive = None
        if loss.certain_negatives:
            exclusive = exclusive_pairs(training, plan.mirror, loss.may_overlap)
        job = Job(
            config=options.config,
            plan=plan,
            training=training,
            validation=held_back,
            run_dir=run_dir,
            device=device,
            fingerprint=f"{bundle.weights_sha256} {[case.patient_id for case in training]}",
            inference=InferenceSettings(),
            exclusive=exclusive,
        )
        second = second_job(job, second_steps(options.config), on_progress)
        if options.time_budget_s is not None and not second.resume:
            second = replace(
                second, time_budget_s=options.time_budget_s, whole_budget_s=options.time_budget_s
            )
        found = trained_reader(second, Processes.only(device), on_progress)
    if found is None:
        raise ModelError(
            "The second reader finds too little to be of use.",
            where=folder,
            fix="train it longer (--time-budget), in an empty folder",
        )
    return add_second_reader(
        replace(bundle, second_reader=found.described), found.weights, model_card=model_card
    )
