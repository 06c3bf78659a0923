"""The mean of the weights of two models, for models/pelvis-synthetic: the second model was trained from the first.

    python models/pelvis-synthetic/mean_of_weights.py FIRST SECOND OUT

OUT is the second model with these weights; what is chosen after the network (`contour-ai models tune`) comes next.
"""

from __future__ import annotations

import sys
from pathlib import Path

from contour_ai.bundle import load_bundle, save_bundle

first, second, out = (Path(argument) for argument in sys.argv[1:])
weights = [load_bundle(folder).build_network(calibrated=False).state_dict() for folder in (first, second)]
mean = {
    name: ((weights[0][name].float() + value.float()) / 2).to(value.dtype)
    for name, value in weights[1].items()
}
save_bundle(out, load_bundle(second), mean, model_card=(second / "MODEL_CARD.md").read_text(encoding="utf-8"))
