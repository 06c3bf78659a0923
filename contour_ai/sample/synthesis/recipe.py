"""The recipe of synthetic patients: every range that is drawn from, each key explained, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path

from contour_ai.errors import ConfigError
from contour_ai.sample.synthesis.densities import DENSITIES, Density
from contour_ai.sample.synthesis.tissues import Tissue
from contour_ai.settings import commented_yaml, from_mapping
from contour_ai.yaml_files import read_yaml

Range = tuple[float, float]

ROIS = (
    "Prostate",
    "SeminalVes",
    "Bladder",
    "Rectum",
    "Femur_Head_L",
    "Femur_Head_R",
)
"""What a synthetic patient's structure set holds if the recipe does not say, by TG-263 names: organs of the pelvis."""

TORSO_ROIS = (
    "Lung_L",
    "Lung_R",
    "Heart",
    "Esophagus",
    "Trachea",
    "SpinalCord",
    "Liver",
    "Spleen",
    "Kidney_L",
    "Kidney_R",
    "Stomach",
    "Pancreas",
    "A_Aorta",
)
"""Organs of the trunk, which a recipe may name."""

KNOWN_ROIS = (*ROIS, *TORSO_ROIS)
"""Every ROI that a recipe may name."""

VIEWS = ("pelvis", "part", "trunk", "above", "chest")
"""Parts of the body that may be scanned."""


@dataclass(frozen=True)
class GridConfig:
    """Voxels of the CT that is written."""

    pixel_mm: Range = (2.4, 2.9)
    """Smallest and largest pixel size; about as fine as the model that learns from it. Finer pixels cost time."""
    slice_mm: tuple[float, ...] = (2.5, 3.0, 3.0, 5.0)
    """Slice distances, one of which is taken. Slices above 3.5 mm are drawn at half and averaged in pairs."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Which part of the body is scanned: one of five, by their weights."""

    pelvis: float = 0.62
    """Weight of a scan from the upper thighs to the lower abdomen."""
    part: float = 0.12
    """Weight of a scan that begins and ends anywhere in the pelvis, so that organs are cut or missing."""
    trunk: float = 0.12
    """Weight of a scan from the upper thighs to the top of the label map."""
    above: float = 0.14
    """Weight of a scan of the body above the pelvis: organs of the pelvis must not be found there."""
    chest: float = 0.0
    """Weight of a scan that begins anywhere above the pelvis and ends 15 to 48 cm higher."""
    below_hips_mm: Range = (5.0, 90.0)
    """How far below the lowest point of the hip bones a scan begins."""
    above_heads_mm: Range = (90.0, 230.0)
    """How far above the centres of the femoral heads a scan of the pelvis ends."""
    truncation_probability: float = 0.08
    """Chance of a circular field of view that cuts the sides of the body."""


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Deformation of the whole anatomy."""

    scale: Range = (0.88, 1.14)
    """Size of the body."""
    stretch: float = 0.07
    """Largest relative change of each axis besides."""
    rotation_deg: float = 7.0
    """Largest rotation about each axis."""
    bend_mm: tuple[Range, ...] = ((2.0, 7.0), (0.8, 3.0))
    """Strength of smooth displacements, the first in waves of 70 to 110 mm, the second of 28 to 45 mm."""
    hip_rotation_deg: float = 18.0
    """Largest turn of each femur about the centre of its head, about each axis."""
    mirror_probability: float = 0.5
    """Chance of a left-right mirror of the anatomy; names keep to the side."""


@dataclass(frozen=True, kw_only=True)
class OrganConfig:
    """Organs of the pelvis."""

    female_probability: float = 0.2
    """Chance of a woman: no prostate nor seminal vesicles, a vagina and mostly a uterus."""
    prostatectomy_probability: float = 0.06
    """Chance of a man without a prostate."""
    bladder_cm3: Range = (50.0, 500.0)
    """Volume of the bladder; low volumes as frequent as high ones on a logarithmic scale."""
    bladder_empty_probability: float = 0.1
    """Chance of an empty bladder of 20 to 60 cm3 instead."""
    bladder_wall_mm: Range = (1.5, 6.0)
    """Thickness of the bladder's wall."""
    prostate_cm3: Range = (15.0, 120.0)
    """Volume of the prostate."""
    median_lobe_probability: float = 0.25
    """Chance of a lobe that grows into the bladder."""
    rectum_cm3: Range = (20.0, 150.0)
    """Volume of the rectum, from collapsed to full."""
    seminal_vesicles_mm: Range = (18.0, 42.0)
    """Length of each seminal vesicle."""
    mass_probability: float = 0.1
    """Chance of a tumour of the pelvis or abdomen in a man."""
    female_mass_probability: float = 0.35
    """The same in a woman, where it is mostly cystic."""
    mass_mm: Range = (30.0, 220.0)
    """Diameter of the tumour."""
    bone_lesion_probability: float = 0.12
    """Chance of metastases or dense islands in bones."""


@dataclass(frozen=True, kw_only=True)
class BodyConfig:
    """What the map does not label: fat, muscles, skin."""

    fat_mm: Range = (4.0, 42.0)
    """Thickness of the fat under the skin; thin as frequent as thick on a logarithmic scale."""
    belly_mm: Range = (2.0, 60.0)
    """Fat in the belly, in front of the bowel."""
    wall_mm: Range = (6.0, 15.0)
    """Thickness of the abdominal wall's muscles."""
    thigh_mm: Range = (25.0, 50.0)
    """Muscle in front of the femora."""
    septa: Range = (0.05, 0.22)
    """Share of fat between muscles."""
    strands: Range = (0.01, 0.07)
    """Share of vessels and other soft tissue in fat."""
    floor_mm: Range = (4.0, 9.0)
    """Thickness of the levator ani."""
    plexus: Range = (0.0, 0.8)
    """Share of veins in what lies between the prostate and the pubic bone."""
    side_wall_mm: Range = (7.0, 19.0)
    """Thickness of the internal obturator muscle."""
    ascites_probability: float = 0.06
    """Chance of free fluid in the belly."""
    hands_probability: float = 0.08
    """Chance of hands on the body."""
    arms_probability: float = 0.15
    """Chance of upper arms beside the chest."""
    breasts_probability: float = 0.8
    """Chance of breasts in a woman."""


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """Contrast, and what hollow organs hold."""

    venous_contrast_probability: float = 0.4
    """Chance of contrast in vessels and organs."""
    bladder_contrast_probability: float = 0.15
    """Chance of contrast in the urine, mostly in layers."""
    bladder_contrast_hu: Range = (80.0, 900.0)
    """HU of urine with contrast."""
    catheter_probability: float = 0.08
    """Chance of a balloon catheter in the bladder, some with a bubble of air."""
    oral_contrast_probability: float = 0.3
    """Chance of contrast in the bowel."""
    rectal_contrast_probability: float = 0.06
    """Chance of contrast in the rectum."""
    rectal_gas: Range = (0.0, 0.9)
    """Share of the rectum's content that is gas, where there is any."""
    lung_vessels: Range = (0.01, 0.09)
    """Share of vessels in the lungs."""
    lung_tumour_probability: float = 0.2
    """Chance of a tumour in a lung; it counts as lung."""
    effusion_probability: float = 0.08
    """Chance of fluid behind each lung; it does not count as lung."""
    calcification_probability: float = 0.4
    """Chance of calcifications in arteries and in the prostate, each."""


@dataclass(frozen=True, kw_only=True)
class ImplantConfig:
    """Metal."""

    seeds_probability: float = 0.15
    """Chance of two to four gold markers in the prostate."""
    brachytherapy_probability: float = 0.03
    """Chance of 40 to 100 permanent seeds in the prostate."""
    prosthesis_probability: float = 0.16
    """Chance of a hip prosthesis; its femoral head is declared absent."""
    both_hips_probability: float = 0.15
    """Chance that both hips have one, where one has."""
    skin_markers_probability: float = 0.3
    """Chance of three metal beads on the skin."""
    streaks: Range = (0.4, 1.4)
    """Strength of the streaks that metal makes."""


@dataclass(frozen=True, kw_only=True)
class ScannerConfig:
    """What the scanner makes of it."""

    noise_hu: Range = (4.0, 45.0)
    """Standard deviation of the noise."""
    noise_width_px: Range = (0.3, 0.9)
    """Width of the grain: smooth and sharp kernels."""
    streak_noise_hu: Range = (0.0, 25.0)
    """Noise along lines through both hips, where the scanner has little light."""
    blur_px: Range = (0.25, 0.75)
    """Partial volume and kernel, within the slice and across."""
    sharpening_probability: float = 0.2
    """Chance of a kernel that overshoots at edges."""
    shift_hu: float = 12.0
    """Largest error of calibration."""
    couch_probability: float = 0.8
    """Chance of a couch below the patient."""


@dataclass(frozen=True, kw_only=True)
class RelativeConfig:
    """Relatives of contoured patients, which a training draws where it has no label maps."""

    organ_mm: Range = (-3.0, 3.0)
    """How far the surface of each organ moves outwards; inwards where negative. Thin organs move less."""
    organ_hu: float = 16.0
    """Largest change of each organ's density."""
    tissue_hu: float = 24.0
    """Largest change of the density of fat and of soft tissue."""
    lung_hu: float = 60.0
    """Largest change of the density of lung."""
    bone_factor: Range = (0.85, 1.2)
    """Smallest and largest factor of the density of bone."""
    texture_hu: float = 8.0
    """Largest strength of texture, in grains of 5 and of 18 mm."""
    noise_hu: float = 15.0
    """Largest standard deviation of the noise that is added, on the model's voxels."""
    blur_probability: float = 0.3
    """Chance of a smoother kernel."""


@dataclass(frozen=True, kw_only=True)
class SynthesisRecipe:
    """Everything that `contour-ai synthesize` can be told in a file."""

    grid: GridConfig = field(default_factory=GridConfig)
    """Voxels of the CT that is written."""
    view: ViewConfig = field(default_factory=ViewConfig)
    """Which part of the body is scanned."""
    pose: PoseConfig = field(default_factory=PoseConfig)
    """Deformation of the whole anatomy."""
    organs: OrganConfig = field(default_factory=OrganConfig)
    """Organs of the pelvis."""
    body: BodyConfig = field(default_factory=BodyConfig)
    """What the map does not label."""
    content: ContentConfig = field(default_factory=ContentConfig)
    """Contrast, and what hollow organs hold."""
    implants: ImplantConfig = field(default_factory=ImplantConfig)
    """Metal."""
    scanner: ScannerConfig = field(default_factory=ScannerConfig)
    """What the scanner makes of it."""
    relatives: RelativeConfig = field(default_factory=RelativeConfig)
    """Relatives of contoured patients (`train --synthetic` without label maps); of the rest only pose and the width of
    the scanner's grain count for them."""
    densities: Mapping[str, Density] = field(default_factory=dict)
    """HU by tissue (names of `synthesis.tissues`, small letters), instead of the usual: plain and enhanced are the
    ranges of the mean without and with contrast in the vessels; fine and coarse are the strength of texture in grains
    of about 5 and 18 mm, in HU."""
    rois: tuple[str, ...] = ROIS
    """Structures that are written."""

    def __post_init__(self) -> None:
        known = sorted(tissue.name.lower() for tissue in Tissue)
        strange = [name for name in self.densities if name not in known]
        if strange:
            raise ConfigError(
                "Unknown tissue in densities.", found=", ".join(strange), expected=", ".join(known)
            )
        unknown = [roi for roi in self.rois if roi not in KNOWN_ROIS]
        if unknown or not self.rois:
            raise ConfigError(
                "The value of rois does not fit.",
                found=", ".join(unknown) or "none",
                expected=", ".join(KNOWN_ROIS),
            )
        for key, section in vars(self).items():
            if is_dataclass(section):
                _check_values(key, section)
        weights = [getattr(self.view, kind) for kind in VIEWS]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                "The weights of view are not valid.",
                found=dict(zip(VIEWS, weights, strict=True)),
                expected="0 or more each, and at least one above 0",
                fix="give the part of the body that is to be drawn a weight above 0",
            )
        if not self.grid.slice_mm or min(*self.grid.slice_mm, *self.grid.pixel_mm, 99) < 0.5:
            raise ConfigError(
                "The value of grid.slice_mm or grid.pixel_mm is not valid.",
                found=f"slices {list(self.grid.slice_mm)}, pixels {list(self.grid.pixel_mm)}",
                expected="at least one slice distance; all sizes 0.5 mm or more",
                fix="change them in the recipe; `contour-ai synthesize --print-recipe` prints the defaults",
            )

    def density(self, tissue: Tissue) -> Density:
        """HU of a tissue."""
        return self.densities.get(tissue.name.lower(), DENSITIES[tissue])


def _check_values(name: str, section: object) -> None:
    """Probabilities from 0 to 1; ranges ascending.

    Raises:
        ConfigError: a probability outside 0 to 1, or a range that does not ascend.
    """
    for key, value in vars(section).items():
        pairs = value if isinstance(value, tuple) and value and isinstance(value[0], tuple) else (value,)
        if key.endswith("_probability") and not 0 <= value <= 1:
            raise ConfigError(
                f"The value of {name}.{key} is not valid.",
                found=value,
                expected="a probability, 0 to 1",
                fix="change it in the recipe, or leave it out for the default",
            )
        for pair in pairs:
            if isinstance(pair, tuple) and len(pair) == 2 and pair[0] > pair[1]:
                raise ConfigError(
                    f"The value of {name}.{key} is not valid.",
                    found=list(pair),
                    expected="[low, high] with low <= high",
                    fix="exchange the two numbers in the recipe",
                )


def load_recipe(path: Path | None) -> SynthesisRecipe:
    """A recipe from a YAML file; keys that are not there keep their defaults, None gives all defaults.

    Raises:
        ConfigError: the file cannot be read, has unknown keys (the nearest valid one is named) or values that do not
            fit.
    """
    if path is None:
        return SynthesisRecipe()
    content = read_yaml(path, "The recipe", fix="check --recipe")
    return from_mapping(SynthesisRecipe, {} if content is None else content, where=path)


def print_recipe(recipe: SynthesisRecipe) -> str:
    """A recipe as YAML with every key explained in a comment."""
    return commented_yaml(recipe)
