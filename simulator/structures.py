"""Numbers of the anatomical label maps: FreeSurfer's inside the brain, SynthSeg's generation labels outside it.

Source: FreeSurferColorLUT.txt; SynthSeg (Billot et al., Medical Image Analysis 86, 2023), training label maps.
"""

from __future__ import annotations

import numpy as np

AIR = 0
WHITE = (2, 41)
CORTEX = (3, 42)
VENTRICLES = (4, 5, 43, 44)
LATERAL_VENTRICLES = (4, 43)
CEREBELLAR_WHITE = (7, 46)
CEREBELLAR_CORTEX = (8, 47)
THALAMUS = (10, 49)
CAUDATE = (11, 50)
PUTAMEN = (12, 51)
PALLIDUM = (13, 52)
THIRD_VENTRICLE = (14, 72)
FOURTH_VENTRICLE = (15,)
BRAIN_STEM = (16,)
HIPPOCAMPUS_AMYGDALA = (17, 18, 53, 54)
CSF = (24,)
WHITE_LESION = (25, 57, 77)
OTHER_GREY = (26, 58, 136, 137, 163, 164)
VENTRAL_DIENCEPHALON = (28, 60)
VESSEL = (30, 62)
OPTIC_CHIASM = (85,)
ARTERY = (502,)
EYES = (506,)
SOFT_TISSUE = (507,)
MUCOSA = (508, 509)
SKIN = (511,)
OTHER_SOFT = (512, 530)
VEIN = (514,)
COMPACT_BONE = (515,)
MARROW = (516,)

LEFT_CEREBRUM = (2, 3)
RIGHT_CEREBRUM = (41, 42)
CEREBELLUM = CEREBELLAR_WHITE + CEREBELLAR_CORTEX
BRAIN = (
    *WHITE,
    *CORTEX,
    *VENTRICLES,
    *CEREBELLUM,
    *THALAMUS,
    *CAUDATE,
    *PUTAMEN,
    *PALLIDUM,
    *THIRD_VENTRICLE,
    *FOURTH_VENTRICLE,
    *BRAIN_STEM,
    *HIPPOCAMPUS_AMYGDALA,
    *WHITE_LESION,
    *OTHER_GREY,
    *VENTRAL_DIENCEPHALON,
    *VESSEL,
)

LABEL_LIMIT = 600


def lookup(codes: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A table that says for every label number whether it is one of ``codes``; index it with a label map."""
    table = np.zeros(LABEL_LIMIT, dtype=np.bool_)
    table[list(codes)] = True
    return table
