"""Films of turning heads: what is asked for is what is shown."""

import numpy as np
import pytest
import torch

from data_process.made_turns import MAX_YAW, TEN, draw_motion, draw_phones, make_turn
from deep_3drecon.face_model import load_face_model


def test_heads_turn_and_every_channel_moves():
    speaker, motion = draw_motion(2, 200)
    assert np.abs(motion["angle"][:, 1]).max() == pytest.approx(MAX_YAW, rel=0.02)
    assert motion["exp"].min() >= 0 and motion["exp"].max() <= 1 and speaker.identity.shape == (80,)
    columns = load_face_model("open").index(*TEN)
    assert motion["exp"][:, columns].std(0).min() > 0.02
    speech = draw_motion(2, 200, exercise=0.0, turn=0.0)[1]
    assert not speech["angle"].any() and speech["exp"][:, columns].std() < motion["exp"][:, columns].std()


def test_the_seed_decides():
    one, again, other = (draw_motion(1, 30, seed)[1]["exp"] for seed in (0, 0, 5))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_phones_follow_one_another():
    phones = draw_phones(np.random.default_rng(0), 3.0)
    assert all(a.end == b.start for a, b in zip(phones, phones[1:], strict=False)) and phones[-1].end >= 3


def test_the_film_shows_the_truth():
    film = make_turn(0, 2, 96)
    assert film.frames.shape == (2, 96, 96, 3) and film.regions.shape == (2, 96, 96)
    nose = film.truth.landmarks[0, 4].round().astype(int)
    assert film.regions[0, nose[1], nose[0]] == 3  # made_film.FACE
    assert torch.tensor(film.truth.coeff).isfinite().all()


def test_at_a_fast_pace_every_third_frame_shows_another_mouth():
    columns, alike = load_face_model("open").index(*TEN), {}
    for pace in (1.0, 8.0):
        exp = draw_motion(1, 100, pace=pace)[1]["exp"][:, columns].T
        alike[pace] = [np.corrcoef(curve[:-3], curve[3:])[0, 1] for curve in exp]
    assert min(alike[1.0]) > 0.5 and max(alike[8.0]) < 0.4
