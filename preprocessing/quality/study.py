"""Every measure of one prepared study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np

from preprocessing.grid import NETWORK_GRID, template
from preprocessing.quality.coverage import brain_cut, coverage, inside_view, overlap
from preprocessing.quality.ghosting import ghosting
from preprocessing.quality.intensity import bias, contrast, enhancement, gain
from preprocessing.quality.measure import Measure
from preprocessing.quality.noise import signal_to_noise
from preprocessing.quality.shape import brain_of_template, brain_scale, brain_shape, brain_volume, from_t1, pose
from preprocessing.quality.similarity import levels, misalignment, similarity
from preprocessing.quality.spikes import spikes
from preprocessing.quality.surroundings import Surroundings, deep_white_matter, surroundings
from preprocessing.quality.wrap import wrap_around
from preprocessing.resample import Matrix, resample
from preprocessing.study import PreparedStudy
from preprocessing.volume import FloatArray, Role, Volume

BIAS_CORRECTED = (Role.T1, Role.FLAIR, Role.LOW_DOSE)


def measure(volumes: Mapping[Role, Volume], prepared: PreparedStudy) -> tuple[Measure, ...]:
    """All measures; ``volumes`` are the converted series that ``prepared`` was made of (DWI is its b=0 image)."""
    images = {role: volumes[role] for role in prepared.channels}
    found = [*_views(images, prepared), *_brain(prepared)]
    t1 = surroundings(volumes[Role.T1], prepared.brain, prepared.transforms[Role.T1])
    for role in (Role.T1, Role.FLAIR, Role.DWI, Role.LOW_DOSE):
        lies_as = Role.ADC if role is Role.DWI else role  # the b=0 image lies where the ADC map lies
        if role in volumes and lies_as in prepared.transforms:
            found += _picture(role, volumes[role], prepared, prepared.transforms[lies_as], t1)
    raw = {
        role: resample(volume, like=NETWORK_GRID, transform=prepared.transforms[role], outside=np.nan).array
        for role, volume in images.items()
    }
    guide = {**raw}
    if Role.DWI in volumes and Role.ADC in raw:
        matrix = prepared.transforms[Role.ADC]
        guide[Role.ADC] = resample(volumes[Role.DWI], like=NETWORK_GRID, transform=matrix, outside=np.nan).array
    return (*found, *_alignment(guide, prepared), *_signals(raw, prepared))


def normal_similarity() -> Mapping[str, tuple[float, float]]:
    """Median and robust standard deviation of each series' similarity over the cohort of docs/quality.md."""
    return _normal()


@cache
def _normal() -> dict[str, tuple[float, float]]:
    text = files("preprocessing.quality").joinpath("normal.json").read_text(encoding="utf-8")
    return {role: (float(middle), float(spread)) for role, (middle, spread) in json.loads(text)["similarity"].items()}


def _views(images: Mapping[Role, Volume], prepared: PreparedStudy) -> list[Measure]:
    """Fields of view against the brain, and the slices they are made of."""
    whole = prepared.brain | brain_of_template()
    seen = {role: inside_view(volume.geometry, prepared.transforms[role]) for role, volume in images.items()}
    found = [Measure("overlap", overlap(whole, list(seen.values())))]
    for role, volume in images.items():
        columns, rows, slices = volume.geometry.spacing
        found += [
            Measure("coverage", coverage(whole, seen[role]), role),
            Measure("brain_cut", brain_cut(whole, volume.geometry, prepared.transforms[role]), role),
            Measure("slice_spacing", slices, role),
            Measure("in_plane", max(columns, rows), role),
        ]
    return found


def _brain(prepared: PreparedStudy) -> list[Measure]:
    to_t1 = prepared.transforms[Role.T1]
    centre = (to_t1 @ NETWORK_GRID.affine @ [*np.argwhere(prepared.brain).mean(axis=0)[::-1], 1.0])[:3]
    found = [
        Measure("brain_volume", brain_volume(prepared.brain, to_t1)),
        Measure("brain_shape", brain_shape(prepared.brain)),
        Measure("brain_scale", brain_scale(to_t1)),
    ]
    for role in prepared.channels:
        if role is not Role.T1:
            rotation, translation = pose(from_t1(prepared.transforms[role], to_t1), centre)
            found += [Measure("rotation", rotation, role), Measure("translation", translation, role)]
    return found


def _picture(
    role: Role, volume: Volume, prepared: PreparedStudy, transform: Matrix, t1: Surroundings
) -> list[Measure]:
    """Noise and artefacts of one series, on its own grid."""
    around = t1
    if role is not Role.T1:
        around = surroundings(volume, prepared.brain, transform, (t1.outline, prepared.transforms[Role.T1]))
    why = "the air around the head is masked or not in view" if around.masked else ""
    return [
        Measure("signal_to_noise", signal_to_noise(around), role, why),
        Measure("ghosting", ghosting(around), role, why),
        Measure("wrap_around", wrap_around(around), role),
        Measure("spikes", spikes(volume.array), role),
    ]


def _alignment(guide: Mapping[Role, FloatArray], prepared: PreparedStudy) -> list[Measure]:
    """Each series against T1, and T1 against the template, on the network grid, inside the brain."""
    grey = {role: levels(array, prepared.brain) for role, array in guide.items()}
    t1 = grey[Role.T1]
    atlas = levels(resample(template(), like=NETWORK_GRID).array, prepared.brain)
    found = [Measure("misalignment", misalignment(atlas, t1, prepared.brain), Role.T1)]
    for role in prepared.channels:
        if role is Role.T1:
            continue
        alike = similarity(t1[prepared.brain], grey[role][prepared.brain])
        middle, spread = normal_similarity()[role]
        found += [
            Measure("similarity", alike, role),
            Measure("similarity_z", (alike - middle) / spread, role),
            Measure("misalignment", misalignment(t1, grey[role], prepared.brain), role),
        ]
    return found


def _signals(raw: Mapping[Role, FloatArray], prepared: PreparedStudy) -> list[Measure]:
    scales, units = prepared.scales, dict(zip(prepared.channels, prepared.input, strict=True))
    corrected = {role: scales[role].from_unit(unit) for role, unit in units.items()}
    seen = prepared.brain & np.isfinite(raw[Role.T1]) & np.isfinite(raw[Role.LOW_DOSE])
    agent = enhancement(corrected[Role.T1], corrected[Role.LOW_DOSE], seen, deep_white_matter())
    found = [Measure("gain", gain(scales[Role.LOW_DOSE], scales[Role.T1])), Measure("enhancement", agent)]
    for role, unit in units.items():
        found.append(Measure("contrast", contrast(scales[role]), role))
        if role in BIAS_CORRECTED:
            found.append(Measure("bias", bias(raw[role], corrected[role], unit, prepared.brain), role))
    return found
