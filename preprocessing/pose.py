"""Rigid and affine transforms as parameters that an optimiser can step along: each is about 1 mm at the cortex."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocessing.quasi_newton import Parameters
from preprocessing.resample import Matrix

RADIUS = 60.0  # mm from the brain's centre to where a turn of 1 / RADIUS moves a point by 1 mm


class Model(Protocol):
    """A family of transforms."""

    def matrix(self, parameters: Parameters) -> Matrix:
        """The 4 × 4 matrix."""

    def pulled_back(self, parameters: Parameters, by_matrix: Matrix) -> Parameters:
        """The derivative by the parameters from that by the matrix's first three rows, (3, 4)."""


class Rigid:
    """A turn about ``centre`` (rotation vector × RADIUS) and a shift (mm): 6 parameters."""

    def __init__(self, centre: NDArray[np.float64]) -> None:
        self.centre = centre

    def parameters(self, turn: ArrayLike, shift: ArrayLike) -> Parameters:
        """From a rotation vector in radians and a shift in mm."""
        return np.concatenate([np.asarray(turn) * RADIUS, np.asarray(shift)])

    def matrix(self, parameters: Parameters) -> Matrix:
        return about(self.centre, rotation(parameters[:3] / RADIUS), parameters[3:])

    def pulled_back(self, parameters: Parameters, by_matrix: Matrix) -> Parameters:
        by_linear = by_matrix[:, :3] - np.outer(by_matrix[:, 3], self.centre)
        turning = [np.sum(by_linear * slope) / RADIUS for slope in rotation_slopes(parameters[:3] / RADIUS)]
        return np.concatenate([turning, by_matrix[:, 3]])


class Affine:
    """A linear map about ``centre`` (less the identity, × RADIUS) and a shift (mm): 12 parameters."""

    def __init__(self, centre: NDArray[np.float64]) -> None:
        self.centre = centre

    def parameters(self, linear: Matrix, shift: ArrayLike) -> Parameters:
        """From a 3 × 3 matrix and a shift in mm."""
        return np.concatenate([((linear - np.eye(3)) * RADIUS).ravel(), np.asarray(shift)])

    def matrix(self, parameters: Parameters) -> Matrix:
        return about(self.centre, np.eye(3) + parameters[:9].reshape(3, 3) / RADIUS, parameters[9:])

    def pulled_back(self, parameters: Parameters, by_matrix: Matrix) -> Parameters:
        by_linear = by_matrix[:, :3] - np.outer(by_matrix[:, 3], self.centre)
        return np.concatenate([by_linear.ravel() / RADIUS, by_matrix[:, 3]])


def about(centre: NDArray[np.float64], linear: Matrix, shift: NDArray[np.float64]) -> Matrix:
    """The 4 × 4 matrix of ``linear`` (3 × 3) about ``centre``, then ``shift``."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + shift - linear @ centre
    return matrix


def cross(vector: NDArray[np.float64]) -> Matrix:
    """The matrix of the cross product with ``vector``."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation(turn: NDArray[np.float64]) -> Matrix:
    """The 3 × 3 matrix of a rotation vector in radians (Rodrigues)."""
    angle = float(np.linalg.norm(turn))
    across = cross(turn)
    return np.eye(3) + np.sinc(angle / np.pi) * across + np.sinc(angle / 2 / np.pi) ** 2 / 2 * across @ across


def rotation_slopes(turn: NDArray[np.float64]) -> list[Matrix]:
    """The derivatives of ``rotation`` by the three components (Gallego and Yezzi 2015, equation 9)."""
    square = float(turn @ turn)
    if square < 1e-12:
        return [cross(axis) for axis in np.eye(3)]
    matrix = rotation(turn)
    across = cross(turn)
    return [
        (turn[i] * across + cross(across @ (axis - matrix[:, i]))) / square @ matrix
        for i, axis in enumerate(np.eye(3))
    ]
