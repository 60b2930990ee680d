"""The panel: rows where the lesions are, the patient's left at the right, outlines in green."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from node.panel import Column, draw_panel

SHAPE = (160, 192, 160)


def head() -> tuple[np.ndarray, np.ndarray]:
    k, j, i = np.indices(SHAPE)
    brain = (k - 80) ** 2 + (j - 96) ** 2 + (i - 80) ** 2 < 70**2
    return brain, brain.astype(np.float32) * 0.5


@pytest.mark.parametrize("with_lesion", [True, False])
def test_a_column_for_each_image_and_one_for_outlines(tmp_path, with_lesion):
    brain, image = head()
    lesion = np.zeros(SHAPE, bool)
    if with_lesion:
        lesion[60:66, 90:100, 100:110] = True
    columns = [Column("a", image, 0.0, 1.0), Column("b", image, 0.0, 1.0)]
    draw_panel(tmp_path / "panel.png", columns, brain, lesion)
    picture = matplotlib.image.imread(tmp_path / "panel.png")[..., :3]
    green = (picture[..., 1] > 0.8) & (picture[..., 0] < 0.4) & (picture[..., 2] < 0.4)
    assert green.any() == with_lesion
    width = picture.shape[1] / (3 if with_lesion else 2)
    assert 180 < width < 230
    if with_lesion:
        assert np.flatnonzero(green.any(axis=0)).min() > 2.5 * width, "i grows to the patient's left: right half"


def test_bright_is_bright_and_left_is_right(tmp_path):
    brain, image = head()
    image[:, :, 90:] *= 2  # brighter on the patient's left
    draw_panel(tmp_path / "panel.png", [Column("a", image, 0.0, 1.0)], brain, np.zeros(SHAPE, bool))
    picture = matplotlib.image.imread(tmp_path / "panel.png")[40:, :, 0]
    left, right = np.array_split(picture, 2, axis=1)
    assert right.mean() > 1.5 * left.mean()
