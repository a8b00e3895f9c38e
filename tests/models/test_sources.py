"""Sources are held, changed where it pays, and faded into each other."""

import numpy as np
import pytest

from models.sources import faded, hold, odd_light, unfit, unlikeness

LEARN = np.zeros((30, 6))
LEARN[:, 1] = np.linspace(-0.3, 0.3, 30)


def test_a_source_is_held_through_small_motion_and_changed_for_a_large_one():
    new = np.zeros((120, 6))
    new[:60, 1], new[60:, 1] = -0.21, 0.21
    new[:, 1] += 0.01 * np.sin(np.arange(120))
    chosen = hold(LEARN, new)
    assert len(set(chosen[:60])) == len(set(chosen[60:])) == 1
    assert np.allclose(LEARN[chosen[[0, -1]], 1], [-0.21, 0.21], atol=0.03)


def test_the_cheapest_way_is_that_of_all_ways():
    rng = np.random.default_rng(0)
    learn, new = rng.normal(0, 0.05, (3, 6)), rng.normal(0, 0.05, (5, 6))
    ways = np.array(np.meshgrid(*[range(3)] * 5)).reshape(5, -1).T

    def price(way, cost, unlike):
        gap = (new - learn[way]).reshape(5, 2, 3) / 0.1
        return (np.linalg.norm(gap, axis=-1).sum(-1) ** 2).sum() + cost * unlike[way[:-1], way[1:]].sum()

    for unlike in (None, unlikeness(learn, rng.normal(0.1, 0.05, (3, 27)))):
        every = 1 - np.eye(3) if unlike is None else unlike
        for cost in (0.0, 0.3, 2.0):
            best = min(price(way, cost, every) for way in ways)
            assert price(hold(learn, new, cost, unlike=unlike), cost, every) == pytest.approx(best)


def test_frames_in_another_light_are_passed_over_and_far_from_the_others():
    light = np.zeros((30, 27))
    light[20:, 18] = 0.2  # blue
    assert (odd_light(light)[:20] == 0).all() and (odd_light(light)[20:] > 10).all()
    far = unlikeness(LEARN, light)
    assert far[0, 0] == 0 and far[19, 20] > far[0, 19] > far[0, 1]


def test_blinking_frames_are_passed_over():
    exp, names = np.zeros((30, 2)), ("eyeBlinkLeft", "browDownLeft")
    exp[15] = 0.8, 0.0
    exp[3] = 0.0, 0.9
    poor = unfit(exp, names)
    assert poor[15] > 10 and poor[3] == 0
    new = np.tile(LEARN[15], (20, 1))
    assert set(hold(LEARN, new)) == {15} and set(hold(LEARN, new, cost_of=poor)) <= {14, 16}


def test_long_motions_give_the_same_as_their_blocks_would():
    new = np.zeros((200, 6))
    new[:, 1] = 0.25 * np.sin(np.arange(200) / 30)
    chosen = hold(LEARN, new, 0.0)
    assert np.array_equal(chosen, np.abs(LEARN[None, :, 1] - new[:, None, 1]).argmin(1))


def test_changes_are_spread_evenly_and_never_overlap():
    indices = np.repeat([4, 7, 2], [20, 6, 20])
    parts = faded(indices, fade=10)
    shares = np.array([share for _, _, share in parts])
    assert shares.max() < 1 and shares[0] == shares[-1] == 0
    for t, (first, second, share) in enumerate(parts):
        assert indices[t] in (first, second)
        assert (second is None) == (share == 0)
    nearest = [b if share > 0.5 else a for a, b, share in parts]
    assert nearest == indices.tolist()
    assert faded([3, 3, 3]) == [(3, None, 0.0)] * 3


def test_poses_of_another_size_are_refused():
    with pytest.raises(ValueError, match="are needed"):
        hold(LEARN[:, :3], LEARN)
