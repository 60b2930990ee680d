"""The network's grid and the template."""

from __future__ import annotations

import numpy as np

from preprocessing.grid import NETWORK_GRID, NETWORK_SHAPE, template, template_brain
from preprocessing.resample import resample


def test_the_whole_template_brain_lies_inside_with_a_margin() -> None:
    on_grid = resample(template().with_array(template_brain()), like=NETWORK_GRID).array > 0.5
    assert on_grid.shape == NETWORK_SHAPE == (160, 192, 160)
    assert abs(int(on_grid.sum()) - int(template_brain().sum())) < 0.01 * template_brain().sum()
    inner = on_grid[2:-2, 4:-4, 6:-6]
    assert inner.sum() == on_grid.sum()


def test_the_grid_is_centred_on_the_template_brain() -> None:
    index = np.argwhere(template_brain())[:, ::-1]
    corners = np.stack([index.min(axis=0), index.max(axis=0)])
    centre = (template().geometry.affine @ [*corners.mean(axis=0), 1])[:3]
    middle = (NETWORK_GRID.affine @ [*(np.asarray(NETWORK_GRID.size) - 1) / 2, 1])[:3]
    np.testing.assert_array_equal(middle, np.round(centre))
