"""The patients and models that benchmarks/prediction.py measures with."""

from __future__ import annotations

from pathlib import Path


def draw_patient(folder: Path, slices: int, pixels: int) -> Path:
    """A phantom's body scanned as a clinic does, as DICOM."""
    import numpy as np

    from contour_ai.dicom.ct_write import PatientIdentity, write_ct
    from contour_ai.grid import Grid
    from contour_ai.sample.phantom import draw_phantom
    from contour_ai.sample.variants import Scan, scanned
    from contour_ai.volume import Volume

    phantom = draw_phantom("headneck", 901)
    body = phantom.structures.mask("External")
    cut_out = Volume(
        np.where(body, np.maximum(phantom.volume.hu, -1000), -1024).astype(np.int16), phantom.volume.grid
    )
    length = float(np.ptp(phantom.volume.grid.slice_offsets_mm))
    scan = Scan(
        pixel_mm=512 / pixels, matrix=pixels, slice_mm=round(length / (slices - 0.5), 4), couch="sandwich"
    )
    drawn = scanned(cut_out, phantom.structures, scan, seed=1)
    if drawn.volume.hu.shape[0] < slices:  # a longer patient than there is: go on with the same slices
        drawn_hu = np.resize(drawn.volume.hu, (slices, pixels, pixels))
    else:
        drawn_hu = drawn.volume.hu[:slices]
    grid = Grid.axial(drawn_hu.shape, drawn.volume.grid.spacing_mm, (0.0, 0.0, 0.0))
    folder.mkdir()
    write_ct(
        folder / "ct",
        Volume(drawn_hu, grid),
        PatientIdentity(patient_id="benchmark", patient_name="Benchmark", study_date="20260101"),
        uid_seed="b",
    )
    return folder


def renamed(patient: Path, copy: Path, number: int) -> None:
    """The same scan as another patient's."""
    import pydicom
    from pydicom.uid import generate_uid

    study, series = (generate_uid(entropy_srcs=[str(number), what]) for what in ("study", "series"))
    for path in sorted(p for p in patient.rglob("*") if p.is_file()):
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.StudyInstanceUID = f"benchmark{number}", study
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(number), dataset.SOPInstanceUID])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        target = copy / path.relative_to(patient)
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target)


def random_model(folder: Path, like: str, filters: int) -> Path:
    """The bundle `like` with a wider network of random weights."""
    import dataclasses

    from contour_ai.bundle import load_bundle, save_bundle
    from contour_ai.network import build_network

    bundle = load_bundle(like)
    config = dataclasses.replace(bundle.network, base_filters=filters)
    network = build_network(config)
    bundle = dataclasses.replace(
        bundle,
        network=config,
        ranges=None,
        calibration={},
        contour_model=None,
        own_contour_model=None,
        second_reader=None,
    )
    save_bundle(folder, bundle, network.state_dict(), model_card="Random weights, for their speed alone.")
    return folder


def judged_model(folder: Path, like: str, *, with_reader: bool) -> Path:
    """The bundle `like` with a second reader of random weights, and verdicts that ask it, or without both."""
    import dataclasses

    from contour_ai.bundle import SecondReader, load_bundle, save_bundle
    from contour_ai.network import build_network
    from contour_ai.network_config import preset
    from contour_ai.quality.contour_verdict import POOLED, ContourModel
    from contour_ai.quality.own_contours import OWN_FIGURE_NAMES
    from contour_ai.training.second_reader_config import SecondReaderConfig

    bundle, usual = load_bundle(like), SecondReaderConfig()
    k, i, j = (s * usual.coarser for s in bundle.preprocess.spacing_mm_kij)
    config = preset(
        "resunet3d",
        in_channels=bundle.network.in_channels,
        out_channels=len(bundle.rois),
        base_filters=usual.base_filters,
        norm="instance",
        dropout=0.0,
    )
    own = ContourModel(
        patients=1,
        false_alarm=0.08,
        intercept=-3.0,
        weights=dict.fromkeys(OWN_FIGURE_NAMES, 0.1),
        usual={POOLED: dict.fromkeys(OWN_FIGURE_NAMES, (0.1, 0.1))},
        limits={POOLED: 0.5},
    )
    described = dataclasses.replace(
        bundle,
        second_reader=SecondReader(spacing_mm_kij=(k, i, j), network=config) if with_reader else None,
        own_contour_model=own if with_reader else None,
        contour_model=None,
        default=False,
    )
    save_bundle(
        folder,
        described,
        bundle.build_network(calibrated=False).state_dict(),
        model_card="For the time of its verdicts alone.",
        second_reader=build_network(config).state_dict() if with_reader else None,
    )
    return folder
