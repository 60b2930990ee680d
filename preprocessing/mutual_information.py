"""Normalised mutual information of a fixed sample of points with a moving image, and its analytic gradient.

Studholme et al. 1999: NMI = (H(F) + H(M)) / H(F, M), which does not change when the overlap of the images does. The
histogram is that of Mattes et al. 2003: a fixed value counts in one bin, a moving one in four, by a cubic B-spline, so
that the NMI is smooth in the transform. Points that leave the moving image fade out within its outermost voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preprocessing.resample import Matrix

BINS = 32
CELLS = BINS * BINS
TAILS = (0.005, 0.995)  # quantiles where the outermost bins begin: a few bright vessels must not spread all the rest
_SPAN = BINS - 3 - 1e-3  # how far apart the bins of moving values may lie, for all four bins of each to exist
_QUANTILE_SAMPLE = 20_000
_LEAST = 1e-12


@dataclass(frozen=True)
class Sample:
    """Points of the fixed image: ``points`` (N, 3) in LPS mm and ``values`` (N,), float32 on one device."""

    points: Tensor
    values: Tensor


class MutualInformation:
    """The likeness of ``sample`` and ``moving`` [k, j, i], whose ``to_index`` (4 × 4) takes LPS mm to (i, j, k).

    1 means that the images tell nothing of each other, which is also the answer where they do not overlap; 2 is the
    most there is. Matrices (4 × 4) take a point of the fixed image to a point of the moving one, LPS mm.
    """

    def __init__(self, sample: Sample, moving: Tensor, to_index: Matrix) -> None:
        self.points = torch.cat([sample.points, torch.ones_like(sample.points[:, :1])], dim=1)
        low, high = tails(sample.values)
        self.row = ((sample.values - low) * (BINS / (high - low))).clamp_(0, BINS - 1).long() * BINS
        self.low, self.high = tails(moving.flatten())
        self.moving = LinearInterpolator(moving)
        self.to_index = to_index

    def values(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """The NMI under each of ``matrices`` (P, 4, 4)."""
        index = self._index(matrices)
        value, weight = self._in_bins(self.moving.values(index)), self.moving.fade(index)
        first = value.floor()
        histogram = CELLS * torch.arange(len(matrices), device=value.device)[:, None]
        weights = (_spline(value - first) * weight).flatten()
        counts = torch.bincount((self._bins(first) + histogram).flatten(), weights, CELLS * len(matrices))
        return _nmi(counts.reshape(len(matrices), BINS, BINS).double().cpu().numpy())

    def overlap(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of the points that lie in the moving image under each of ``matrices`` (P, 4, 4)."""
        return np.asarray(self.moving.fade(self._index(matrices)).mean(dim=1).cpu(), dtype=np.float64)

    def value_and_gradient(self, matrix: Matrix) -> tuple[float, Matrix]:
        """The NMI under ``matrix`` and its derivative by the first three rows of the matrix, (3, 4)."""
        index = self._index(matrix[None])
        raw, slope = self.moving.values_and_slopes(index)
        weight, fading = self.moving.fade_and_slopes(index)
        value = self._in_bins(raw)
        first = value.floor()
        bins, spline = self._bins(first), _spline(value - first)
        counts = torch.bincount(bins.flatten(), (spline * weight).flatten(), CELLS)
        nmi, by_count = _nmi_and_gradient(counts.reshape(BINS, BINS).double().cpu().numpy())
        by_cell = torch.from_numpy(by_count.ravel()).to(value).index_select(0, bins.flatten()).reshape(bins.shape)
        unclipped = (raw > self.low) & (raw < self.high)
        by_value = (by_cell * _spline_slope(value - first)).sum(dim=0) * weight * unclipped * self._bins_per_unit
        by_weight = (by_cell * spline).sum(dim=0)
        by_index = by_value[:, None] * slope + by_weight[:, None] * fading
        gradient = (by_index[0] @ self.points).double().cpu().numpy()
        return nmi, np.asarray(self.to_index[:3, :3].T @ gradient)

    def _index(self, matrices: NDArray[np.float64]) -> Tensor:
        """Where the points lie in the moving image, (P, 3, N) in voxels."""
        rows = torch.from_numpy((self.to_index @ matrices)[:, :3]).to(self.points)
        return rows @ self.points.T

    @property
    def _bins_per_unit(self) -> float:
        return _SPAN / (self.high - self.low)

    def _in_bins(self, raw: Tensor) -> Tensor:
        return ((raw - self.low) * self._bins_per_unit).clamp_(0, _SPAN).add_(1)

    def _bins(self, first: Tensor) -> Tensor:
        """The four cells of the histogram that each value counts in, (4, …)."""
        cell = self.row + first.long() - 1
        return torch.stack([cell, cell + 1, cell + 2, cell + 3])


class LinearInterpolator:
    """Trilinear interpolation of ``image`` [k, j, i] at positions ``index`` (P, 3, N), in voxels along (i, j, k).

    Outside the centres of the outermost voxels their values continue.
    """

    def __init__(self, image: Tensor) -> None:
        rows, slices = image.shape[2], image.shape[2] * image.shape[1]
        self.image = image.flatten()
        self.last = torch.tensor([float(size - 1) for size in image.shape[::-1]], device=image.device)[:, None]
        self.stride = (1, rows, slices)
        step_i, step_j, step_k = (
            stride if size > 1 else 0 for stride, size in zip(self.stride, image.shape[::-1], strict=True)
        )
        two = torch.arange(2, device=image.device)
        self.corners = (two[:, None, None] * step_k + two[:, None] * step_j + two * step_i).reshape(8, 1, 1)

    def values(self, index: Tensor) -> Tensor:
        """The image's values, (P, N)."""
        corners, share = self._at_corners(index)
        along_i = torch.lerp(corners[:, :, 0], corners[:, :, 1], share[:, 0])
        return _lerp(_lerp(along_i, 1, share[:, 1]), 0, share[:, 2])

    def values_and_slopes(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The values (P, N) and their exact derivatives by the position, (P, 3, N)."""
        corners, share = self._at_corners(index)
        i, j, k = share.unbind(dim=1)
        step_i = corners[:, :, 1] - corners[:, :, 0]
        along_i = corners[:, :, 0] + i * step_i
        step_j = along_i[:, 1] - along_i[:, 0]
        along_j = along_i[:, 0] + j * step_j
        step_k = along_j[1] - along_j[0]
        slope = torch.stack([_lerp(_lerp(step_i, 1, j), 0, k), _lerp(step_j, 0, k), step_k], dim=1)
        continued = (index < 0) | (index > self.last)
        return along_j[0] + k * step_k, slope.masked_fill_(continued, 0.0)

    def fade(self, index: Tensor) -> Tensor:
        """1 inside, 0 outside, falling linearly from half a voxel within the outermost centres to half without."""
        return self._fades(index).prod(dim=1)

    def fade_and_slopes(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """``fade`` (P, N) and its derivatives by the position, (P, 3, N)."""
        fades = self._fades(index)
        i, j, k = fades.unbind(dim=1)
        others = torch.stack([j * k, i * k, i * j], dim=1)
        falling = (fades > 0) & (fades < 1)
        return i * others[:, 0], torch.where(falling, others * torch.sign(self.last / 2 - index), 0.0)

    def _fades(self, index: Tensor) -> Tensor:
        return torch.minimum(index, self.last - index).add_(0.5).clamp_(0, 1)

    def _at_corners(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The values at the eight corners around, (2, 2, 2, P, N) in (k, j, i), and where between, (P, 3, N)."""
        first = torch.minimum(index.floor().clamp_(min=0), (self.last - 1).clamp(min=0))
        i, j, k = first.long().unbind(dim=1)
        place = i + j * self.stride[1] + k * self.stride[2]
        # index_select is several times faster than indexing or grid_sample.
        corners = self.image.index_select(0, (place + self.corners).flatten()).reshape(2, 2, 2, *place.shape)
        return corners, (index - first).clamp_(0, 1)


def tails(values: Tensor) -> tuple[float, float]:
    """The quantiles ``TAILS`` of flat ``values``; a constant image gets a range nevertheless."""
    few = values[:: max(1, len(values) // _QUANTILE_SAMPLE)]
    low, high = torch.quantile(few, torch.tensor(TAILS, dtype=few.dtype, device=few.device)).tolist()
    return low, high if high > low else low + 1.0


def _lerp(pairs: Tensor, axis: int, share: Tensor) -> Tensor:
    low, high = pairs.unbind(dim=axis)
    return torch.lerp(low, high, share)


def _spline(u: Tensor) -> Tensor:
    """The cubic B-spline's weights (4, …) on the bins −1, 0, 1, 2 around a value at ``u`` in [0, 1)."""
    v = 1 - u
    return torch.stack([v * v * v / 6, (3 * u - 6) * u * u / 6 + 2 / 3, (3 * v - 6) * v * v / 6 + 2 / 3, u * u * u / 6])


def _spline_slope(u: Tensor) -> Tensor:
    """The derivative of ``_spline`` by ``u``."""
    v = 1 - u
    return torch.stack([-v * v / 2, (1.5 * u - 2) * u, (2 - 1.5 * v) * v, u * u / 2])


def _nmi(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The NMI of histograms (…, fixed, moving); 1 for empty ones."""
    p = counts / counts.sum(axis=(-2, -1), keepdims=True).clip(_LEAST)
    joint = -(p * np.log(p.clip(_LEAST))).sum(axis=(-2, -1))
    marginals = sum(-(m * np.log(m.clip(_LEAST))).sum(axis=-1) for m in (p.sum(axis=-1), p.sum(axis=-2)))
    return np.where(joint > 0, marginals / joint.clip(_LEAST), 1.0)


def _nmi_and_gradient(counts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The NMI of one histogram and its derivative by each count."""
    total = max(float(counts.sum()), _LEAST)
    p = counts / total
    logarithm = np.log(p.clip(_LEAST))
    fixed, moving = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    joint = -float((p * logarithm).sum())
    if joint <= 0:
        return 1.0, np.zeros_like(counts)
    log_fixed, log_moving = np.log(fixed.clip(_LEAST)), np.log(moving.clip(_LEAST))
    nmi = -float((fixed * log_fixed).sum() + (moving * log_moving).sum()) / joint
    by_p = (nmi * logarithm - log_fixed - log_moving) / joint
    return nmi, (by_p - (p * by_p).sum()) / total
