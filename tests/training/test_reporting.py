"""What a training tells, and what it does without TensorBoard."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contour_ai.training.reporting import NoWriter, tensorboard_writer

NOT_INSTALLED = ("tensorboard", "torch.utils.tensorboard")


def test_a_training_without_tensorboard_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NOT_INSTALLED:
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING):
        writer = tensorboard_writer(tmp_path, 0)
    writer.add_scalar("loss", 1.0, 1)
    writer.add_image("worst/1", np.zeros((2, 2, 3), np.uint8), 1, dataformats="HWC")
    assert isinstance(writer, NoWriter)
    assert "TensorBoard is not installed" in caplog.text
    assert not (tmp_path / "tensorboard").exists()


def test_what_predicts_and_trains_is_imported_without_tensorboard() -> None:
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_INSTALLED!r}))\n"
        "from contour_ai import load_model, predict, train\n"
        "import contour_ai.pipeline._predict, contour_ai.training.loop, contour_ai.inference\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
