"""Where a training stands, on disk: written as a whole or not at all, read without pickle's code execution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from contour_ai.errors import ModelError
from contour_ai.files import atomic_file, clear_left_behind

LAST = "last.pt"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors, numbers, text, lists and dicts of them; an older file stays until the new one is complete.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_file(path, overwrite=True, private=True) as temporary:
        torch.save(content, temporary)


def best_path(folder: Path, step: int) -> Path:
    """The best weights, of a step: until `LAST` names another one they must stay, whenever the process is killed."""
    return folder / f"best-{step}.pt"


def remove_others(folder: Path, best_step: int) -> None:
    """Removes best weights that are no longer the best, and what a process that was killed left half-written."""
    clear_left_behind(folder, exclusive=True)
    for path in folder.glob("best-*.pt"):
        if path != best_path(folder, best_step):
            path.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU.

    Raises:
        ModelError: it is not there or cannot be read.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            "There is no checkpoint to go on from.", where=path, fix="start without --resume"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError("The checkpoint cannot be read.", where=path, found=error) from error
    return content


def time_left_s(path: Path) -> float | None:
    """What was left of the time budget when a checkpoint was written; None where there is none, or no checkpoint."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # noqa: BLE001 - only asked to tell people; whatever is wrong with it is said when it is loaded
        return None
    left = content.get("budget_left_s")
    return left if isinstance(left, float) else None


def random_state() -> dict[str, Any]:
    """The state of torch's generators: what dropout draws from."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets torch's generators; those of GPUs only where there are as many now as then."""
    torch.set_rng_state(state["cpu"])
    saved = state.get("cuda", [])
    if torch.cuda.is_available() and len(saved) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved)
