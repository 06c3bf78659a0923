"""Small valid files of every kind, which benchmarks/robustness_fuzz.py mutates, and the commands that read them."""

from __future__ import annotations

import gzip
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY)]


@dataclass
class Seeds:
    """Valid files of every kind, and the commands that read them."""

    folder: Path
    masks: dict[str, bytes] = field(default_factory=dict)
    yamls: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """{name: (text, arguments with {file})}."""

    def __post_init__(self) -> None:
        from synthetic import axial, box_contours, compress, write_stack, write_structure_set

        stack = axial(6, shape_ij=(24, 20))
        patient = self.folder / "patient"
        write_stack(patient / "ct", stack)
        rois = {"Brainstem": box_contours(stack, [1, 2, 3]), "Parotid_L": box_contours(stack, [2, 3])}
        write_structure_set(patient / "rs.dcm", stack, rois)
        shutil.copytree(patient, self.folder / "compressed")
        for n, path in enumerate(sorted((self.folder / "compressed" / "ct").iterdir())):
            compress(path, ("JPEGLosslessProcess14_1", "JPEG2000Lossless", "RLELossless")[n % 3])
        self._make_masks(patient)
        self._make_bundle()
        self._make_yamls()

    def _make_masks(self, patient: Path) -> None:
        from click.testing import CliRunner

        from contour_ai.cli.main import cli

        out = self.folder / "made"
        out.mkdir()
        for name in ("m.npz", "nifti", "nrrd", "m.seg.dcm"):
            kind = {"m.npz": "npz", "m.seg.dcm": "seg"}.get(name, name)
            arguments = ["to-masks", str(patient), "--out", str(out / name), "--format", kind]
            result = CliRunner().invoke(cli, arguments)
            if result.exit_code:
                raise SystemExit(f"the valid files cannot be made: {result.output}")
        arguments = ["to-rtstruct", str(patient / "ct"), str(out / "m.npz"), "--out", str(out / "ai.dcm")]
        if CliRunner().invoke(cli, arguments).exit_code:
            raise SystemExit("the valid files cannot be made: the structure set")
        image = (out / "nifti" / "Brainstem.nii.gz").read_bytes()
        nrrd = (out / "nrrd" / "Brainstem.nrrd").read_bytes()
        raw = gzip.decompress(nrrd[nrrd.index(b"\n\n") + 2 :])
        segments = b"Segment0_Name:=Brainstem\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n\n"
        meta = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
            "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -20 -30 -50\nElementSpacing = 2 2 3\n"
            "DimSize = 20 24 6\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        )
        self.masks = {
            "a.npz": (out / "m.npz").read_bytes(),
            "a.nii.gz": image,
            "a.nii": gzip.decompress(image),
            "a.nrrd": nrrd,
            "a.seg.nrrd": nrrd.replace(b"\n\n", b"\n" + segments, 1),
            "b.nrrd": nrrd[: nrrd.index(b"\n\n")].replace(b"gzip", b"raw") + b"\n\n" + raw,
            "a.mha": meta.encode() + raw,
            "seg.dcm": (out / "m.seg.dcm").read_bytes(),
        }

    def _make_bundle(self) -> None:
        from dataclasses import replace

        from test_bundle import small_bundle

        from contour_ai.bundle import save_bundle

        bundle, network = small_bundle()
        bundle = replace(bundle, postprocess={})
        save_bundle(self.folder / "models" / "small", bundle, network.state_dict(), model_card="# small\n")

    def _make_yamls(self) -> None:
        from click.testing import CliRunner

        from contour_ai.cli.main import cli
        from contour_ai.dicom.profile import load_profile
        from contour_ai.settings import to_mapping, to_yaml
        from contour_ai.training.config import TrainConfig, print_config

        patient = str(self.folder / "patient")
        structure_set = str(self.folder / "patient" / "rs.dcm")
        profile = {k: v for k, v in to_mapping(load_profile("eclipse")).items() if k != "name"}
        config = "\n".join(
            line for line in print_config(TrainConfig()).splitlines() if not line.lstrip().startswith("#")
        )
        run = ["train", patient, "--out", "{out}", "--config", "{file}", "--check", "--device", "cpu"]
        model = str(self.folder / "models" / "small")
        limits = CliRunner().invoke(cli, ["commission", "--example-limits"]).output
        commission = ["commission", patient, "--model", model, "--limits", "{file}", "--out", "{out}"]
        self.yamls = {
            "profile.yaml": (to_yaml(profile), ["check", structure_set, "--profile", "{file}"]),
            "roi-map.yaml": (
                "rois:\n  Brainstem: [Hirnstamm, 'Brain stem']\n  Parotid_L: []\nignore: [PTV]\nabsent: {}\n",
                ["to-masks", patient, "--out", "{out}.npz", "--roi-map", "{file}"],
            ),
            "config.yaml": (config, run),
            "limits.yaml": (limits, commission),
            "recipe.yaml": (
                "description: a margin\nstructures:\n- name: Brainstem_PRV\n  of: Brainstem\n  steps: [{margin: 5}]\n",
                ["derive", patient, "--recipe", "{file}", "--out", "{out}.dcm"],
            ),
            "tau.yaml": (
                "default_mm: 2.0\n",
                [
                    "evaluate",
                    str(self.folder / "made" / "ai.dcm"),
                    structure_set,
                    "--tau",
                    "{file}",
                    "--ct",
                    patient,
                ],
            ),
        }
