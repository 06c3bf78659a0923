"""The training loop: one that can be read from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from contour_ai.inference import Predictor, memory_format
from contour_ai.network import ResidualUNet3d
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training import checkpoint
from contour_ai.training.arithmetic import computed_in
from contour_ai.training.batches import BatchMaker
from contour_ai.training.cache import Case
from contour_ai.training.clock import Clock
from contour_ai.training.config import TrainConfig
from contour_ai.training.distributed import Processes
from contour_ai.training.job import Job, Progress
from contour_ai.training.loss_watch import LossWatch
from contour_ai.training.memory import freed_memory_kept
from contour_ai.training.progress_page import write_progress_page
from contour_ai.training.pseudo_labels import draw_pseudo_labels, load_pseudo_labels, pseudo_label_counts
from contour_ai.training.reporting import NoWriter, progress_facts, score_facts, tensorboard_writer
from contour_ai.training.resuming import resume_training, save_best, save_training
from contour_ai.training.schedule import lr_factor
from contour_ai.training.step import Stepper
from contour_ai.training.stopping import StopRequest, TrainingStoppedError, stop_requests
from contour_ai.training.threads import ThreadChoice
from contour_ai.training.validation import (
    FORWARD_SHARE,
    VALIDATION_FILE,
    CurveWriter,
    Score,
    draw_worst,
    validate,
    write_metrics,
    write_patients,
    write_score,
)
from contour_ai.training.validation_figures import CaseFigures

logger = logging.getLogger(__name__)
LOOK_EVERY = 10
"""Steps between looks at the loss: each one waits for the GPU."""
LOOK_EVERY_S = 10.0
"""Longest time between looks, where steps are slow."""


def train_network(
    job: Job,
    network: ResidualUNet3d,
    on_progress: OnProgress = no_progress,
    processes: Processes | None = None,
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Trains `network` in place. Ctrl-C or SIGTERM ends it after the step; everything is saved then.

    Args:
        job: what is to be done; the same in all processes.
        network: with the weights to start from.
        on_progress: stages "training" and "validation"; "validated" with the scores in its facts.
        processes: those that train together, each with `plan.batch_size` samples a step; None for this one alone.

    Returns:
        The weights that become the model, as `run.weights` says, and how it went.

    Raises:
        ContourAIError: the loss became NaN or infinite; the message names the patients of the batch. The device's
            memory is not enough for one sample.
        ModelError: the checkpoint to resume from is missing, damaged or of another training.
        TrainingStoppedError: it was asked to stop, and is saved.
    """
    config = job.config
    processes = processes or Processes.only(job.device)
    precision = _start_torch(config, processes)
    order = memory_format(processes.device, precision)
    network.to(device=processes.device, memory_format=order)  # type: ignore[call-overload]
    stepper = Stepper(network, config, _batches(job, processes), job.exclusive, precision, processes)
    at = resume_training(job, stepper) if job.resume else Progress(started_from=job.started_from)
    if at.pseudo_label_step:
        job = _with_training(job, stepper, load_pseudo_labels(job.training, job.pseudo_label_folder))
    stepper.begin()
    clock = _clock(job, at, processes.size)
    at.done = clock.done  # of the steps wanted now, where that is another number than before
    at.budget_left_s = clock.budget_left_s
    at.whole_budget_s = job.whole_budget_s or at.whole_budget_s
    if not job.resume:
        save_training(job, stepper, at)  # from here on a killed training can go on
    watch = LossWatch(at.loss)
    writer = tensorboard_writer(job.run_dir, at.step) if processes.is_main_process else NoWriter()
    try:
        with freed_memory_kept(processes.device), stop_requests() as stop:  # held back until it is saved
            try:
                _take_steps(job, stepper, at, clock, watch, writer, on_progress, stop)
            except TrainingStoppedError:
                at.loss = watch.look(at.step)
                clock.paused()
                at.elapsed_s, at.budget_left_s = clock.elapsed_s, clock.budget_left_s
                save_training(job, stepper, at)
                raise
    finally:
        writer.close()

    processes.broadcast_from_main(0.0)  # the first has written the best weights
    best = checkpoint.load_best(job.checkpoints, at.best_step).model
    if config.run.weights == "best" or at.best_step == at.step:
        return best, at
    return _mean_with_last(job, stepper, best, at, on_progress), at


def _take_steps(
    job: Job,
    stepper: Stepper,
    at: Progress,
    clock: Clock,
    watch: LossWatch,
    writer: CurveWriter,
    on_progress: OnProgress,
    stop: StopRequest,
) -> None:
    """All steps and validations that are left.

    Raises:
        TrainingStoppedError: it was asked to stop; `stepper` and `at` are as after the last step.
    """
    config, processes = job.config, stepper.processes
    threads = ThreadChoice(_thread_numbers(config, processes), torch.set_num_threads)
    saved_s = time.monotonic()
    while not at.finished or at.validation_due:
        rate = config.optimiser.learning_rate * lr_factor(config.schedule, at.done, at.step)
        save_now = False
        if not at.validation_due:
            if _is_time_for_pseudo_labels(config, at):
                with stop.interruptible(allowed=processes.alone):
                    labelled = _pseudo_labelled(job, stepper, on_progress)
                job = _with_training(job, stepper, labelled)
                at.pseudo_label_step, at.pseudo_labels = at.step, pseudo_label_counts(job.training)
                clock.paused()
            began = time.monotonic()
            loss, patient_ids = stepper.step(at.step, rate)
            threads.stepped(time.monotonic() - began)
            watch.add(loss, patient_ids)
            clock.tick()
            overdue = time.monotonic() - saved_s > 60 * config.run.checkpoint_minutes
            at.done, save, stop_now = processes.broadcast_from_main(clock.done, overdue, stop.requested)
            save_now = bool(save)
            at.step, at.elapsed_s, at.budget_left_s = clock.step, clock.elapsed_s, clock.budget_left_s
            at.validation_due = at.finished or at.step % config.run.validate_every == 0
            if stop_now:
                raise TrainingStoppedError
            if at.step % LOOK_EVERY == 0 or watch.waiting_s > LOOK_EVERY_S or at.validation_due or save_now:
                at.loss = watch.look(at.step)
                writer.add_scalar("loss", at.loss, at.step)
                writer.add_scalar("learning rate", rate, at.step)
                facts = progress_facts(job, clock, at, processes.device, processes.size)
                on_progress(ProgressEvent(stage="training", done=at.done, total=1.0, facts=facts))
        if at.validation_due:
            with stop.interruptible(allowed=processes.alone):
                figures = _validated(job, stepper, on_progress)
                score = Score.of(at.step, at.elapsed_s, at.loss, rate, job.plan.rois, figures)
                _draw_worst(job, stepper, score, writer)
            at.validation_due = False
            save_now = True
            _note_validation(job, stepper, at, clock, score, writer)
            on_progress(
                ProgressEvent(stage="validated", done=at.done, total=1.0, facts=score_facts(score, at))
            )
        if save_now:
            save_training(job, stepper, at)
            saved_s = time.monotonic()


def _note_validation(
    job: Job, stepper: Stepper, at: Progress, clock: Clock, score: Score, writer: CurveWriter
) -> None:
    """What a validation found, into `at` and the files of the run."""
    clock.validated()
    at.elapsed_s, at.budget_left_s = clock.elapsed_s, clock.budget_left_s
    at.scores.append(score)
    if score.mean > at.best:
        at.best, at.best_step = score.mean, at.step
        save_best(job, stepper, score)
    write_score(writer, score)
    _write_scores(job, stepper, at, clock)


def _validated(job: Job, stepper: Stepper, on_progress: OnProgress) -> CaseFigures:
    """The figures of all validation patients, of which each process looks at some."""
    processes = stepper.processes
    processes.copy_buffers_of_first(stepper.average.network)
    mine = job.validation[processes.rank :: processes.size]
    found = validate(mine, _predictor(job, stepper), on_progress)
    together = CaseFigures()
    for part in processes.gather(found):
        together.merge(part)
    together.patients = {case.patient_id: together.patients[case.patient_id] for case in job.validation}
    return together


def _mean_with_last(
    job: Job, stepper: Stepper, best: dict[str, torch.Tensor], at: Progress, on_progress: OnProgress
) -> dict[str, torch.Tensor]:
    """The mean of the best and the last averaged weights, validated into `at`."""
    network = stepper.average.network
    weights = {
        name: torch.lerp(best[name], last.cpu(), 0.5) if last.is_floating_point() else last.cpu()
        for name, last in network.state_dict().items()
    }
    network.load_state_dict(weights)
    at.mean = Score.of(
        at.step, at.elapsed_s, at.loss, 0.0, job.plan.rois, _validated(job, stepper, on_progress)
    )
    if stepper.processes.is_main_process:
        write_patients(job.run_dir / VALIDATION_FILE, at.mean)
    on_progress(ProgressEvent(stage="validated", done=at.done, total=1.0, facts=score_facts(at.mean, at)))
    return weights


def _is_time_for_pseudo_labels(config: TrainConfig, at: Progress) -> bool:
    share = config.data.pseudo_label_from
    return share is not None and at.step > 0 and not at.pseudo_label_step and at.done >= share


def _pseudo_labelled(job: Job, stepper: Stepper, on_progress: OnProgress) -> list[Case]:
    """The training patients with pseudo-labels, drawn by the averaged network of the main process."""
    predictor = _predictor(job, stepper)
    return stepper.processes.run_on_main(
        lambda: draw_pseudo_labels(
            job.training,
            lambda case: predictor.logits(case.hu),
            job.exclusive,
            job.pseudo_label_folder,
            on_progress,
        )
    )


def _with_training(job: Job, stepper: Stepper, training: Sequence[Case]) -> Job:
    """Goes on with these training patients."""
    job = replace(job, training=training)
    stepper.batches.patients.leave()
    stepper.batches = _batches(job, stepper.processes)
    return job


def _predictor(job: Job, stepper: Stepper) -> Predictor:
    """The averaged network, run as the model will be."""
    return Predictor(
        network=stepper.average.network,
        preprocess=job.plan.settings,
        inference=job.inference,
        device=stepper.processes.device,
        autocast=stepper.precision,
    )


def _draw_worst(job: Job, stepper: Stepper, score: Score, writer: CurveWriter) -> None:
    if stepper.processes.is_main_process:
        predictor = _predictor(job, stepper)
        draw_worst(
            job.run_dir / "worst", writer, score, job.validation, lambda case: predictor.logits(case.hu)
        )


def _write_scores(job: Job, stepper: Stepper, at: Progress, clock: Clock) -> None:
    score = at.scores[-1]
    logger.info("step %d: loss %.4f, mean Dice %.4f", at.step, score.loss, score.mean)
    if stepper.processes.is_main_process:
        write_metrics(job.run_dir / "metrics.csv", job.plan.rois, at.scores)
        if score.step == at.best_step:
            write_patients(job.run_dir / VALIDATION_FILE, score)
        write_progress_page(job, at, stepper.processes.size, clock)


def _start_torch(config: TrainConfig, processes: Processes) -> torch.dtype | None:
    """Sets threads and number formats; gives what the network computes in, None for fp32."""
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    if processes.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(config.run.seed + processes.rank)  # dropout differs between processes
    return computed_in(config, processes.device)


def _thread_numbers(config: TrainConfig, processes: Processes) -> tuple[int, ...]:
    """Numbers of threads to choose among: all and one, where the network runs on a CPU and none is fixed."""
    most = torch.get_num_threads()
    if config.run.threads is not None or processes.device.type != "cpu" or not processes.alone:
        return (most,)
    return most, 1


def _batches(job: Job, processes: Processes) -> BatchMaker:
    return BatchMaker(
        job.training,
        job.plan.settings,
        patch_kij=job.plan.patch_kij,
        batch_size=job.plan.batch_size,
        foreground_fraction=job.config.input.foreground_fraction,
        augmentation=job.config.augmentation,
        mirror=job.plan.mirror,
        synthetic=job.synthetic_part,
        seed=job.config.run.seed,
        device=processes.device,
        process=(processes.rank, processes.size),
    )


def _clock(job: Job, at: Progress, processes: int) -> Clock:
    """A clock that resumes where the training stands."""
    step_voxels = math.prod(job.plan.patch_kij) * job.plan.batch_size * processes
    validation_steps = (
        FORWARD_SHARE
        * sum(job.inference.voxels_through_network(case.hu.shape) for case in job.validation)
        / step_voxels
    )
    left_s = job.time_budget_s
    if left_s is None and at.budget_left_s is not None:
        left_s = max(at.budget_left_s - job.prepared_s, 0.0)
    return Clock(
        job.config.run.steps,
        left_s,
        step=at.step,
        elapsed_s=at.elapsed_s,
        done=at.done,
        validation_steps=validation_steps,
    )
