"""What the head is made of, and how each tissue relaxes and diffuses at 1.5 T and 3 T.

Values marked [A] are assumptions without a source; the others come from: Wright et al. 2008 (MAGMA 21:121, T1 of brain
tissue), BrainWeb (Collins et al. 1998, T2, PD, CSF), Lu et al. 2004 (MRM 52:679, blood). They vary between subjects by
up to ±10 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simulator import structures as fs
from simulator.randomness import truncated_normal

SUBJECT_SPREAD = 0.10


class Tissue(IntEnum):
    """Labels of the simulated head."""

    AIR = 0
    WHITE = 1
    GREY = 2
    PUTAMEN = 3
    CAUDATE = 4
    CSF = 5
    FAT = 6
    MUSCLE = 7
    SKIN = 8
    BONE = 9
    MARROW = 10
    VEIN = 11
    ARTERY = 12
    DURA = 13
    CHOROID = 14
    PITUITARY = 15
    EYE = 16
    MUCOSA = 17
    DEEP_GREY = 18
    RIM = 19
    SOLID = 20
    MENINGIOMA = 21
    OEDEMA = 22
    NECROSIS = 23
    LOW_GRADE = 24
    WHITE_LESION = 25
    HAEMORRHAGE = 26
    CAVITY = 27


ENHANCING_LESION = (Tissue.RIM, Tissue.SOLID, Tissue.MENINGIOMA)


@dataclass(frozen=True)
class Relaxation:
    """T1 at 1.5 T and 3 T and T2, ms; proton density relative to water; ADC, 1e-3 mm²/s (0: no signal in DWI)."""

    t1_low_field: float
    t1_high_field: float
    t2: float
    density: float
    adc: float


RELAXATION: dict[Tissue, Relaxation] = {
    Tissue.AIR: Relaxation(1000, 1000, 10, 0, 0),
    Tissue.WHITE: Relaxation(646, 838, 70, 0.77, 0.76),
    Tissue.GREY: Relaxation(1197, 1607, 83, 0.86, 0.80),  # ADC [A]
    Tissue.PUTAMEN: Relaxation(1084, 1332, 80, 0.84, 0.75),  # T2, PD, ADC [A]
    Tissue.CAUDATE: Relaxation(1109, 1395, 80, 0.84, 0.75),  # T2, PD, ADC [A]
    Tissue.DEEP_GREY: Relaxation(930, 1180, 76, 0.82, 0.76),  # [A] thalamus and brain stem: myelin among grey matter
    Tissue.CSF: Relaxation(3900, 3900, 1500, 1.0, 3.0),  # [A] within BrainWeb's 2569–4000 and 329–2500 ms
    Tissue.FAT: Relaxation(300, 350, 70, 1.0, 0.05),  # ADC [A]: fat hardly diffuses
    Tissue.MUSCLE: Relaxation(900, 1050, 47, 1.0, 1.5),  # ADC [A]
    Tissue.SKIN: Relaxation(700, 900, 35, 0.7, 1.0),  # [A]
    Tissue.BONE: Relaxation(350, 350, 15, 0.1, 0.5),
    Tissue.MARROW: Relaxation(225, 225, 50, 0.9, 0.3),  # PD, ADC [A]
    Tissue.VEIN: Relaxation(1440, 1624, 200, 0.8, 0),  # 1.5 T and PD [A]; Lu 2004 gives 1584–1664 ms at 3 T
    Tissue.ARTERY: Relaxation(1440, 1624, 200, 0.8, 0),
    Tissue.DURA: Relaxation(700, 700, 150, 0.7, 0.8),  # PD, ADC [A]
    Tissue.CHOROID: Relaxation(1100, 1400, 90, 0.85, 1.0),  # [A]
    Tissue.PITUITARY: Relaxation(1100, 1400, 90, 0.85, 1.0),  # [A]
    Tissue.EYE: Relaxation(3500, 3500, 1200, 1.0, 2.9),  # [A] vitreous body, near CSF
    Tissue.MUCOSA: Relaxation(1200, 1400, 110, 0.9, 1.5),  # [A]
    Tissue.RIM: Relaxation(1150, 1500, 110, 0.88, 0.96),  # T1, T2, PD [A]; ADC ± .12
    Tissue.SOLID: Relaxation(1150, 1500, 110, 0.88, 0.96),  # as the rim
    Tissue.MENINGIOMA: Relaxation(1150, 1450, 90, 0.85, 0.9),  # [A]
    Tissue.OEDEMA: Relaxation(1200, 1500, 130, 0.9, 1.4),  # [A]
    Tissue.NECROSIS: Relaxation(2000, 2400, 250, 0.95, 2.0),  # all but the ADC [A]
    Tissue.LOW_GRADE: Relaxation(1250, 1600, 140, 0.9, 1.35),  # [A] diffuse glioma, between oedema and tumour
    Tissue.WHITE_LESION: Relaxation(950, 1250, 115, 0.85, 1.05),  # [A] gliosis
    Tissue.HAEMORRHAGE: Relaxation(420, 480, 80, 0.85, 0.7),  # [A] methaemoglobin shortens T1
    Tissue.CAVITY: Relaxation(3500, 3500, 1000, 1.0, 2.8),  # [A] fluid with a little protein
}

# Dura is about half a millimetre thick, less than a voxel: that share of each is dura, the rest dark [A].
DURA_FILL = 0.5

# How wide T1 varies inside one tissue of one head, and T2 and proton density less so [A].
TEXTURE_T1, TEXTURE_DENSITY = 0.025, 0.015
ADC_SPREAD_TUMOUR = 0.12 / 0.96


@dataclass(frozen=True)
class TissueTable:
    """One subject's values at one field, each an array indexed by :class:`Tissue`. ms, ms, relative, mm²/s."""

    field_tesla: float
    t1: NDArray[np.float32]
    t2: NDArray[np.float32]
    density: NDArray[np.float32]
    adc: NDArray[np.float32]


def tissue_table(field_tesla: float, rng: np.random.Generator | None = None) -> TissueTable:
    """The table above at 1.5 or 3 T, varied between subjects by ``rng``; without one, the mean values.

    Raises ``ValueError`` at any other field, where no values are known.
    """
    if field_tesla not in (1.5, 3.0):
        raise ValueError(f"no relaxation times for {field_tesla:g} T; choose 1.5 or 3")
    columns = np.zeros((4, len(Tissue)), dtype=np.float32)
    for tissue, value in RELAXATION.items():
        t1 = value.t1_high_field if field_tesla == 3.0 else value.t1_low_field
        factors = [1.0, 1.0, 1.0, 1.0]
        if rng is not None:
            draws = [truncated_normal(rng, SUBJECT_SPREAD) for _ in range(3)]
            factors = [draws[0], draws[1], truncated_normal(rng, 0.02), draws[2]]
            if tissue in (Tissue.CSF, Tissue.EYE):
                # Between the literature's bounds, T1 of CSF varies little at body temperature; more would make the
                # inversion of FLAIR miss its null, which scanners tune.
                factors[0] = truncated_normal(rng, 0.025)
        columns[:, tissue] = np.array([t1, value.t2, value.density, value.adc * 1e-3]) * factors
    return TissueTable(field_tesla, columns[0], columns[1], columns[2], columns[3])


_OF_STRUCTURE: dict[Tissue, tuple[tuple[int, ...], ...]] = {
    Tissue.WHITE: (fs.WHITE, fs.CEREBELLAR_WHITE),
    Tissue.GREY: (fs.CORTEX, fs.CEREBELLAR_CORTEX, fs.HIPPOCAMPUS_AMYGDALA, fs.OTHER_GREY),
    Tissue.PUTAMEN: (fs.PUTAMEN,),
    Tissue.CAUDATE: (fs.CAUDATE,),
    Tissue.DEEP_GREY: (fs.THALAMUS, fs.PALLIDUM, fs.BRAIN_STEM, fs.VENTRAL_DIENCEPHALON, fs.OPTIC_CHIASM),
    Tissue.CSF: (fs.CSF, fs.VENTRICLES, fs.THIRD_VENTRICLE, fs.FOURTH_VENTRICLE, fs.VESSEL),
    Tissue.WHITE_LESION: (fs.WHITE_LESION,),
    Tissue.MUSCLE: (fs.SOFT_TISSUE, fs.OTHER_SOFT),
    Tissue.SKIN: (fs.SKIN,),
    Tissue.BONE: (fs.COMPACT_BONE,),
    Tissue.MARROW: (fs.MARROW,),
    Tissue.VEIN: (fs.VEIN,),
    Tissue.ARTERY: (fs.ARTERY,),
    Tissue.EYE: (fs.EYES,),
    Tissue.MUCOSA: (fs.MUCOSA,),
}


def tissues_of(structure_map: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The tissue of every structure number; a number that no table knows counts as muscle outside the brain."""
    table = np.full(fs.LABEL_LIMIT, Tissue.MUSCLE, dtype=np.uint8)
    table[fs.AIR] = Tissue.AIR
    for tissue, groups in _OF_STRUCTURE.items():
        for codes in groups:
            table[list(codes)] = tissue
    return table[structure_map]
