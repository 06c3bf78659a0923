"""The options of `against_nnunet.py`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from nnunet_export import SIDES
from nnunet_tables import OURS

ROIS = ("Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "Esophagus", "Larynx", "Bone_Mandible")


def comparison_options(description: str) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", nargs="?", type=Path, help="folder of DICOM patients")
    parser.add_argument("--out", type=Path, help="folder of the comparison")
    parser.add_argument("--nnunet", type=Path, help="folder of nnU-Net's commands (its environment's bin)")
    parser.add_argument("--minutes", type=float, default=45, help="of training, each")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of every program"
    )
    parser.add_argument("--rois", default=",".join(ROIS), help="ROIs to learn, as in A,B")
    parser.add_argument("--patients", type=int, default=0, help="train on so many only; 0 for all")
    parser.add_argument("--held-back", type=int, default=0, help="score so many only; 0 for all")
    parser.add_argument(
        "--config", type=Path, help="configuration of contour-ai train; its defaults otherwise"
    )
    parser.add_argument("--plan", choices=("own", "small"), help="nnU-Net's; small on the CPU, own on a GPU")
    parser.add_argument("--plan-gb", type=float, default=2.0, help="memory that the small plan is made for")
    parser.add_argument("--mirror", default="none", choices=("none", "all"), help="nnU-Net's mirroring")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="nnU-Net's on a CPU; it has no other there than float32",
    )
    parser.add_argument("--only", action="append", choices=(*SIDES, OURS, "score"), help="may be repeated")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)  # a piece of this script as a process
    options = parser.parse_args()
    if not options.step:
        if options.data is None or options.out is None or options.nnunet is None:
            parser.error("DATA, --out and --nnunet are needed")
        if shutil.which("nnUNetv2_train", path=str(options.nnunet)) is None:
            sys.exit(
                f"There is no nnUNetv2_train in {options.nnunet}.\n"
                "Install nnU-Net in an environment of its own, and give its folder of commands: "
                "python -m venv peer; peer/bin/pip install nnunetv2 torch; --nnunet peer/bin"
            )
        options.plan = options.plan or ("small" if options.device == "cpu" else "own")
    return options
