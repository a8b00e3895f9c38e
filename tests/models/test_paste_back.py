"""Paste-back: nothing changes outside, scale and roll are kept, casts are taken off."""

import numpy as np
import pytest

from models.paste_back import PasteError, feather, from_similarity, paste, similarity, smoothed

RNG = np.random.default_rng(0)
FRAME = RNG.integers(0, 256, (90, 120, 3), dtype=np.uint8)
CROP = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
AFFINE = from_similarity([0.9, 0.15, -20.0, -12.0])


def reach(affine, size, shape):
    """(H, W) bool: pixels of the frame that lie in the crop."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    place = np.stack([column, row], -1) @ affine[:, :2].T + affine[:, 2]
    return (place >= 0).all(-1) & (place <= size - 1).all(-1)


@pytest.mark.parametrize("poisson", [False, True])
def test_pixels_outside_of_the_mask_stay_bit_by_bit(poisson):
    mask = feather(64)
    mask[:, 40:] = 0
    inside = reach(AFFINE, 64, FRAME.shape)
    kept = FRAME.copy()
    out = paste(FRAME, CROP, AFFINE, mask, poisson=poisson)
    assert np.array_equal(FRAME, kept)
    assert np.array_equal(out[~inside], FRAME[~inside])
    assert (out[inside] != FRAME[inside]).any()
    nothing = paste(FRAME, CROP, AFFINE, np.zeros((64, 64), np.float32), poisson=poisson)
    assert np.array_equal(nothing, FRAME)


def test_a_crop_of_the_frame_itself_gives_the_frame_back():
    affine = from_similarity([1.0, 0.0, -20.0, -10.0])
    out = paste(FRAME, np.ascontiguousarray(FRAME[10:74, 20:84]), affine, feather(64))
    assert np.array_equal(out, FRAME)


def test_inside_the_mask_the_crop_lies_where_the_affine_says():
    out = paste(FRAME, CROP, from_similarity([1.0, 0.0, -20.0, -10.0]), np.ones((64, 64), np.float32), match=False)
    assert np.array_equal(out[10:74, 20:84], CROP)


def test_a_cast_is_taken_off():
    frame = np.full((90, 120, 3), 100, np.uint8)
    crop = np.full((64, 64, 3), (108, 100, 95), np.uint8)
    assert np.abs(paste(frame, crop, AFFINE, feather(64)).astype(int) - 100).max() <= 1
    assert np.abs(paste(frame, crop, AFFINE, feather(64), match=False).astype(int) - 100).max() == 8


def test_similarity_goes_back_and_forth():
    values = np.array([[0.7, 0.3, 4.0, -2.0], [1.4, -1.2, 0.0, 9.0]])
    assert np.allclose(similarity(from_similarity(values)), values)


def test_smoothing_keeps_scale_roll_and_a_steady_motion():
    t = np.arange(100) / 25
    true = np.column_stack([0.5 + 0.05 * t, 0.1 * t, -20 - 3 * t, 5 + 2 * t])
    noisy = true + np.random.default_rng(1).normal(0, [0.01, 0.01, 0.5, 0.5], true.shape)
    found = similarity(smoothed(from_similarity(noisy), 64, 25))
    assert np.abs(found[:, 0] / true[:, 0] - 1).max() < 0.01
    assert np.abs(found[:, 1] - true[:, 1]).max() < 0.01
    still = from_similarity(np.tile(true[:1], (60, 1)))
    assert np.allclose(smoothed(still, 64, 25), still)


def test_the_mask_fades_to_nothing_at_the_rim():
    mask = feather(64)
    assert mask.max() == 1 and mask[0].max() == mask[:, -1].max() == mask[-1].max() == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.6


def test_wrong_shapes_and_flat_affines_are_refused():
    with pytest.raises(PasteError, match="are needed"):
        paste(FRAME, CROP, AFFINE, np.ones((32, 32), np.float32))
    with pytest.raises(PasteError, match="no inverse"):
        paste(FRAME, CROP, np.zeros((2, 3)), feather(64))
