"""After a training: what limits its ROIs (time, patients, contradicting contours), and the command to go on."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.cli.console import out

if TYPE_CHECKING:
    from contour_ai.bundle import ModelBundle
    from contour_ai.training.limiting import RoiLimit


def print_what_next(
    limits: Sequence[RoiLimit], bundle: ModelBundle, data_dir: Path, run_dir: Path, budget_s: float | None
) -> None:
    """Three lines, each with the command to go on where there is something to do."""
    from contour_ai.training.limiting import IN_WORDS, LIMITS

    minutes = round(2 * (budget_s if budget_s is not None else 3600 * bundle.training.hours) / 60)
    longer = run_dir.with_name(f"{run_dir.name}-longer")
    commands = {
        "time": launch_command(
            *("train", str(data_dir), "--out", str(longer), "--init", str(bundle.folder)),
            *("--time-budget", f"{max(minutes, 1)}m"),
        ),
        "patients": "add patients; how much they give: "
        + shell_command(
            "models", "learning-curve", str(data_dir), "--out", str(run_dir.with_name("learning-curve"))
        ),
        "contours": shell_command(
            "train",
            str(data_dir),
            "--out",
            str(run_dir.with_name(f"{run_dir.name}-check")),
            "--check",
            "--report",
        ),
    }
    for limit in LIMITS:
        here = [one for one in limits if one.limit == limit]
        if not here:
            out().print(f"limited by {IN_WORDS[limit]}: none")
            continue
        listing = "; ".join(one.reason for one in here)
        patients = list(dict.fromkeys(patient for one in here for patient in one.look_at))
        look = f"; look at {', '.join(patients[:3])}" if patients else ""
        out().print(f"limited by {IN_WORDS[limit]}: {listing}{look}. Next: {commands[limit]}", soft_wrap=True)


def shell_command(*words: str) -> str:
    """A command of contour-ai as the shell of this system takes it."""
    return _as_shell_takes(["contour-ai", *words])


def launch_command(*words: str) -> str:
    """As `shell_command`, begun by the `torchrun` or `srun` by which this process was started; what else has to be as
    before stands behind it in brackets."""
    from contour_ai.training.distributed import launch

    start = launch()
    return _as_shell_takes([*start.words, *words]) + (f"  ({start.advice})" if start.advice else "")


def _as_shell_takes(words: Sequence[str]) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
