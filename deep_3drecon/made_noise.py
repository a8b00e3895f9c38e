"""Noise fixed in space: the same place always gets the same value, so seams of an atlas do not show.

Points are (N, 3) float32 in any unit; `frequency` is features per that unit, one number or one for each axis.
"""

import numba
import numpy as np

_JIT = {"nogil": True, "cache": True, "error_model": "numpy"}


def noise(points, frequency, seed, octaves=1):
    """Smooth noise in [-1, 1], mean about 0: (N, 3) -> (N,) float32. Each further octave is twice as fine, half as strong."""
    return _noise(_points(points), _per_axis(frequency), np.uint32(seed & 0xFFFFFFFF), octaves)


def spots(points, frequency, seed, share=1.0, radius=0.45):
    """Round spots, one at most for each cell of 1/frequency, in a `share` of the cells: (N, 3) -> (N,) in [0, 1].

    radius: the largest radius of a spot, in cells, below 0.5; each has its own size and strength.
    """
    return _spots(
        _points(points), _per_axis(frequency), np.uint32(seed & 0xFFFFFFFF), np.float32(share), np.float32(radius)
    )


def smoothstep(low, high, x):
    """0 below `low`, 1 above `high`, smooth between; low > high turns it round."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _points(points):
    return np.require(points, np.float32, ["C"])


def _per_axis(frequency):
    return np.broadcast_to(np.asarray(frequency, np.float32), 3).copy()


@numba.njit(inline="always")
def _hash(x, y, z, seed):
    """A well-stirred 32-bit number for each lattice point."""
    h = (
        np.uint32(x) * np.uint32(0x8DA6B343)
        ^ np.uint32(y) * np.uint32(0xD8163841)
        ^ np.uint32(z) * np.uint32(0xCB1AB31F)
    )
    h = np.uint32(h ^ seed * np.uint32(0x9E3779B1))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@numba.njit(inline="always")
def _unit(h):
    """[0, 1) from the high bits."""
    return np.float32(h >> np.uint32(8)) * np.float32(1.0 / 16777216.0)


@numba.njit(**_JIT)
def _noise(points, frequency, seed, octaves):
    out = np.zeros(len(points), np.float32)
    for n in range(len(points)):
        scale, weight, total = np.float32(1.0), np.float32(1.0), np.float32(0.0)
        for octave in range(octaves):
            x, y, z = (
                points[n, 0] * frequency[0] * scale,
                points[n, 1] * frequency[1] * scale,
                points[n, 2] * frequency[2] * scale,
            )
            i, j, k = np.int32(np.floor(x)), np.int32(np.floor(y)), np.int32(np.floor(z))
            x, y, z = x - i, y - j, z - k
            x, y, z = x * x * (3 - 2 * x), y * y * (3 - 2 * y), z * z * (3 - 2 * z)
            value = np.float32(0.0)
            for corner in range(8):
                a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
                part = (x if a else 1 - x) * (y if b else 1 - y) * (z if c else 1 - z)
                value += part * _unit(_hash(i + a, j + b, k + c, np.uint32(seed + np.uint32(octave))))
            out[n] += weight * (2 * value - 1)
            total += weight
            scale, weight = scale * 2, weight * np.float32(0.5)
        out[n] /= total
    return out


@numba.njit(**_JIT)
def _spots(points, frequency, seed, share, radius):
    out = np.zeros(len(points), np.float32)
    for n in range(len(points)):
        x, y, z = points[n, 0] * frequency[0], points[n, 1] * frequency[1], points[n, 2] * frequency[2]
        i, j, k = np.int32(np.floor(x)), np.int32(np.floor(y)), np.int32(np.floor(z))
        best = np.float32(0.0)
        for neighbour in range(27):
            a, b, c = i + neighbour % 3 - 1, j + neighbour // 3 % 3 - 1, k + neighbour // 9 - 1
            h = _hash(a, b, c, seed)
            if _unit(h) >= share:
                continue
            dx = x - a - _unit(_hash(a, b, c, np.uint32(seed + np.uint32(1))))
            dy = y - b - _unit(_hash(a, b, c, np.uint32(seed + np.uint32(2))))
            dz = z - c - _unit(_hash(a, b, c, np.uint32(seed + np.uint32(3))))
            size = _unit(_hash(a, b, c, np.uint32(seed + np.uint32(4))))
            reach = radius * (np.float32(0.4) + np.float32(0.6) * size)
            fall = 1 - (dx * dx + dy * dy + dz * dz) / (reach * reach)
            if fall > 0:
                best = max(best, fall * fall * (3 - 2 * fall) * (np.float32(0.4) + np.float32(0.6) * size))
        out[n] = best
    return out
