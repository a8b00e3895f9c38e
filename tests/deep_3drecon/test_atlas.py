"""The texture of a made person against the skin it was painted with, and its parts by hand-made cases."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from deep_3drecon.atlas import build_atlas
from deep_3drecon.atlas_draw import PersonPainter
from deep_3drecon.atlas_frames import blend
from deep_3drecon.face_model import load_face_model
from deep_3drecon.mouth_atlas import learn_mouth, open_frames
from deep_3drecon.photometric import refine_clip

SIZE = 128


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


@pytest.fixture(scope="module")
def lit(made_turn, shaken):
    """The true track with light."""
    light = refine_clip(made_turn.truth.select([0, 12]), made_turn.frames[[0, 12]]).parts()["gamma"][0]
    coeff = made_turn.truth.coeff.copy()
    made_turn.truth.layout.split(coeff)["gamma"][:] = light
    return replace(made_turn.truth, coeff=coeff)


@pytest.fixture(scope="module")
def person(made_turn, lit, head):
    return build_atlas(lit, made_turn.frames, head, SIZE, 10)


def test_most_frames_win_and_the_weights_count():
    colours = np.full((5, 1, 2, 3), 100.0, np.float32)
    colours[:2, 0, 0] = 250  # two of five frames see a hand
    colours[0, 0, 1] = 30  # one frame, but it alone sees squarely
    weights = np.ones((5, 1, 2), np.float32)
    weights[1:, 0, 1] = 0.01
    colour, confidence = blend(colours, weights)
    assert np.abs(colour[0, 0] - 100).max() < 2 and np.abs(colour[0, 1] - 30).max() < 2
    assert confidence[0, 0] < 0.62, "where frames disagree the texel is less sure"
    assert blend(colours, 0 * weights)[1].max() == 0


def at(model, picture, ids):
    """Texels of vertices."""
    column, row = (model.uv[ids] * len(picture)).astype(int).clip(0, len(picture) - 1).T
    return picture[row, column]


def test_the_texture_is_that_of_the_person(made_turn, person, head):
    """Every place of the face against what the frames show of it: the made skin under even light."""
    from data_process.made_clips import actor

    true = 255 * actor(3, 0, 192)._texture[::-1] ** (1 / 2.2)
    ids = np.intersect1d(head.regions["face"], np.flatnonzero(head.mean[:, 2].numpy() > 0.15))
    found, painted = (
        at(head, cv2.GaussianBlur(np.float32(a), (0, 0), len(a) / 100), ids) for a in (person.colour, true)
    )
    sure = at(head, person.confidence, ids) > 0.4
    assert sure.mean() > 0.4
    assert np.corrcoef(found[sure].mean(1), painted[sure].mean(1))[0, 1] > 0.6
    redness = [a[:, 0] / a.sum(1) for a in (found, painted)]
    assert np.corrcoef(redness[0][sure], redness[1][sure])[0, 1] > 0.6


def test_it_is_whole_and_knows_what_it_made_up(person, head):
    assert np.isfinite(person.colour).all() and person.colour.min() >= 0 and person.picture().shape == (SIZE, SIZE, 3)
    behind = np.flatnonzero(head.mean[:, 2].numpy() < -0.6)
    assert np.median(at(head, person.confidence, behind)) < 0.05
    assert at(head, person.colour, behind).std(0).max() < 60, "a smooth fill"


def test_a_hand_leaves_no_trace(made_turn, lit, person, head):
    frames = made_turn.frames.copy()
    for t in (3, 10, 19):
        x, y = made_turn.truth.landmarks[t, 50].astype(int)
        frames[t, y - 10 : y + 10, x - 10 : x + 10] = (20, 220, 20)
    covered = build_atlas(lit, frames, head, SIZE, 10)
    assert np.abs(covered.colour - person.colour)[person.confidence > 0.6].mean() < 2


def test_the_person_is_drawn_as_filmed(made_turn, lit, person, head):
    painter, t = PersonPainter(head, person), 12
    parts = {name: torch.tensor(value[t]) for name, value in lit.parts().items()}
    blank = np.zeros_like(made_turn.frames[t])
    drawn = painter.draw(blank, parts, lit.crop[t])
    face = made_turn.regions[t] == 3
    covered = face & (drawn.max(-1) > 0)
    assert covered.sum() > 0.9 * face.sum()
    assert np.abs(drawn.astype(int) - made_turn.frames[t])[covered].mean() < 14


def test_a_mouth_is_learnt_where_lips_stand_apart(made_turn, lit, person, head):
    keys = open_frames(lit, 4)
    assert person.mouth.n_frames > 0 and len(keys)
    upper = person.mouth.layers["upper"]
    assert 0 < upper.confidence.max() <= 1
    teeth = head.mean[head.regions["teeth_upper"]].numpy()
    colour, confidence = upper.at(teeth)
    assert colour.shape == (len(teeth), 3) and np.isfinite(colour).all() and confidence.max() <= 1


def test_a_mouth_never_seen_is_made(made_turn, lit, head):
    shut = replace(lit, landmarks=np.repeat(_shut(lit.landmarks[:1]), len(lit), 0))
    mouth = learn_mouth(shut, made_turn.frames, head)
    assert mouth.n_frames == 0 and all(layer.confidence.max() == 0 for layer in mouth.layers.values())
    assert mouth.layers["upper"].colour.mean() > 10


def _shut(points):
    from deep_3drecon.landmarks import INNER_LIP_LOWER, INNER_LIP_UPPER

    points = points.copy()
    points[:, INNER_LIP_LOWER] = points[:, INNER_LIP_UPPER]
    return points
