"""An invisible mark in every video made here, that says it is synthetic and survives re-encoding at half the size.

    marked = stamp(frame)                      # (H, W, 3) uint8 RGB -> the same, 43 dB from it; 8 bits of payload
    found = detect(frames)                     # Detection: found, payload, score, frames

Quantisation of projections (dither modulation, Chen and Wornell 2001). Luma is brought to a small picture of 64 x 64 cells,
cut into blocks of 8 x 8, and each block measured along four slow waves. The mark moves every measure to the nearest point of
a lattice of step `STEP`, whose offset follows from key and payload; what was in the picture before hardly matters then, unlike
in marks that are added and looked for by correlation. Waves as slow as these (4 to 11 to a frame's side) are what a codec keeps.
Cells are shares of the frame, so any size and shape finds them again; a block looks at itself only, so still surroundings get a
still mark. Cropping
loses it from plain sight; `detect_cropped` tries where the borders may have been.

A detector asks how near all 256 measures are to their lattices, in stretches of one frame to all: a codec that saves writes the mark
well into key frames only, and lets it fade where the picture moves. In an unmarked film measures lie anywhere, and the score of each
stretch, payload and mirroring is a standard normal number at most: one in 10,000 films passes `THRESHOLD`.
"""

import functools
import hashlib
import itertools
from dataclasses import asdict, dataclass

import cv2
import numpy as np

CELLS, BLOCK = 64, 8  # cells along a side of the small picture, and of a block
WAVES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2))  # half waves down and across a block
STEP = 25.0  # luma levels times cells (orthonormal waves): RMS of the mark at most 1.8 levels
# how far measures of a flat block are moved, and the deviation of cells from which on all the way
FLAT_SHARE, ROUGH = 0.25, 8.0
KEY = b"idiolect synthetic mark 1"
SYNTHETIC = 1  # payload of a video made by this program; 0 to 255
THRESHOLD = 6.2
MOST_CROPPED, CROP_STEP = 0.06, 0.006  # shares of a side that `detect_cropped` thinks of
CROP_THRESHOLD = 7.2  # of some ten thousand borders tried in a frame, one in a million unmarked frames passes it
SAMPLED_FRAMES = 120  # of a video, spread over its length, are enough


@dataclass(frozen=True)
class Detection:
    """What `detect` found. payload: 0 to 255, None if nothing was found. score: about 0 without a mark, 22.6 at most."""

    found: bool
    payload: int | None
    score: float
    frames: int
    mirrored: bool

    def as_dict(self):
        """For JSON."""
        return asdict(self)


def stamp(frame, payload=SYNTHETIC):
    """The frame with the mark: (H, W, 3) uint8 RGB -> (H, W, 3) uint8. payload: 0 to 255."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frame {frame.shape} {frame.dtype} came, (H, W, 3) uint8 RGB is needed")
    cells, offsets, waves = _cells(frame), _offsets(payload), _waves()
    missing = offsets - _measure(cells)
    missing -= STEP * np.round(missing / STEP)
    # on a plain wall the eye sees most and a codec keeps least
    missing *= np.minimum(FLAT_SHARE + (1 - FLAT_SHARE) / ROUGH * _blocked(cells).std(1, keepdims=True), 1)
    small = _unblocked(missing @ waves)
    change = cv2.resize(small, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_CUBIC)
    return cv2.add(frame, cv2.merge([change, change, change]), dtype=cv2.CV_8U)


def detect(frames):
    """Detection of the mark in frames (H, W, 3) uint8 RGB of one video, all given ones; the first, a key frame, should be among them."""
    phases = [[_phases(view) for view in (cells, cells[:, ::-1])] for cells in map(_cells, frames)]
    if not phases:
        return Detection(False, None, 0.0, 0, False)
    scores = np.array([_scores(np.array(side)) for side in zip(*phases, strict=True)])
    mirrored, payload = np.unravel_index(scores.argmax(), scores.shape)
    score = float(scores.max())
    found = score >= THRESHOLD
    return Detection(found, int(payload) if found else None, score, len(phases), bool(mirrored) and found)


def detect_cropped(frames, most=MOST_CROPPED):
    """Detection of the standard payload in frames of which up to `most` of the original's width or height was cut off at each side.

    Takes some seconds for each of the frames: give it few, key frames if possible.
    """
    best, count = 0.0, 0
    for frame in frames:
        count += 1
        best = max(best, _search_borders(frame, most))
    found = best >= CROP_THRESHOLD
    return Detection(found, SYNTHETIC if found else None, best, count, False)


def _search_borders(frame, most):
    """Best score of one frame over the shares cut off at its left, right, top and bottom: a coarse grid, then small steps."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = 4 * CELLS
    luma = cv2.resize(luma, (side, side), interpolation=cv2.INTER_AREA if min(luma.shape) > side else cv2.INTER_LINEAR)
    luma, offsets = cv2.boxFilter(luma, -1, (5, 5)), _offsets(SYNTHETIC)

    def score(left, right, top, bottom):
        across, down = 1 / (1 - left - right), 1 / (1 - top - bottom)  # of the original, in sides of what is left
        steps = np.array([[4 * across, 0, 0], [0, 4 * down, 0]])
        steps[:, 2] = [side * -left * across + 2 * across - 0.5, side * -top * down + 2 * down - 0.5]
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cells = cv2.warpAffine(luma, steps, (CELLS, CELLS), flags=how, borderMode=cv2.BORDER_REPLICATE)
        return float(np.cos(2 * np.pi / STEP * (_measure(cells) - offsets)).sum() * np.sqrt(2 / offsets.size))

    shares = np.arange(0, most + CROP_STEP / 2, CROP_STEP)
    found = sorted(((score(*cut), cut) for cut in itertools.product(shares, repeat=4)), reverse=True)[:20]
    best = found[0][0]
    for value, cut in found:
        for step in (CROP_STEP / 2, CROP_STEP / 4):
            for k in range(4):
                for move in (-step, step):
                    tried = [max(share + move * (n == k), 0) for n, share in enumerate(cut)]
                    if (better := score(*tried)) > value:
                        value, cut = better, tried
        best = max(best, value)
    return best


def _phases(cells):
    """Where between two points of a lattice without offset each measure lies: (M,) complex, of size 1."""
    return np.exp(2j * np.pi / STEP * _measure(np.ascontiguousarray(cells))).ravel()


def _scores(phases):
    """How well the phases (T, M) of a film fit the lattices of each payload in the stretch that fits best: (256,)."""
    signs, dithers = _secret()
    near = (phases * np.exp(-2j * np.pi / STEP * dithers)).real
    sums = np.concatenate([np.zeros((1, near.shape[1])), near.cumsum(0)])
    stretches, length = [], 1
    while length < len(near):
        starts = np.arange(0, len(near) - length + 1, max(1, length // 2))
        stretches.append((sums[starts + length] - sums[starts]) / length)
        length *= 2
    stretches.append(sums[-1:] / len(near))
    return (np.concatenate(stretches) @ signs.T).max(0) * np.sqrt(2 / near.shape[1])


@functools.cache
def _secret():
    """Signs (256, M) of the payloads' lattices, each orthogonal to the others, and offsets (M,) of all."""
    n = (CELLS // BLOCK) ** 2 * (len(WAVES) // 2)
    noise = np.frombuffer(hashlib.shake_256(KEY).digest(4 * n), np.uint32)
    signs = np.ones((1, 1))
    while len(signs) < n:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs * np.where(noise & 1, 1, -1), noise / 2**32 * STEP


@functools.lru_cache(maxsize=4)
def _offsets(payload):
    """Lattice offsets (blocks, waves) of a payload: half a step apart where its sign is negative."""
    signs, dithers = _secret()
    if not 0 <= payload < len(signs):
        raise ValueError(f"payload {payload} came, a number from 0 to {len(signs) - 1} is needed")
    offsets = dithers + (signs[payload] < 0) * STEP / 2
    return offsets.reshape(-1, len(WAVES) // 2).astype(np.float32)


@functools.cache
def _waves():
    """Orthonormal (4, 64): each the sum or difference of two cosine waves on a block of 8 x 8."""
    steps = np.pi * (2 * np.arange(BLOCK) + 1) / (2 * BLOCK)
    cosines = np.array([np.cos(k * steps) / np.sqrt(BLOCK if k == 0 else BLOCK / 2) for k in range(BLOCK)])
    pure = np.array([np.outer(cosines[u], cosines[v]).ravel() for u, v in WAVES])
    half = len(pure) // 2
    signs = np.array([1, -1, 1, -1])[:, None]
    return ((pure[:half] + signs * pure[: half - 1 : -1]) / np.sqrt(2)).astype(np.float32)


def _cells(frame):
    """Mean luma of the cells, (64, 64) float32, 0 to 255."""
    luma = cv2.cvtColor(
        np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY
    )  # what is rounded off a pixel is lost in the mean
    while min(luma.shape) >= 4 * CELLS:  # halving is ten times as fast as other areas
        luma = cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(luma.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def _measure(cells):
    """Cells (64, 64) -> measures (blocks, waves)."""
    return _blocked(cells) @ _waves().T


def _blocked(cells):
    """Picture (64, 64) -> (blocks, 64)."""
    n = CELLS // BLOCK
    return cells.reshape(n, BLOCK, n, BLOCK).transpose(0, 2, 1, 3).reshape(n * n, -1)


def _unblocked(blocks):
    """(blocks, 64) -> picture (64, 64)."""
    n = CELLS // BLOCK
    return np.ascontiguousarray(blocks.reshape(n, n, BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(CELLS, CELLS))
