"""Views of a clip hold the head still, and the network's corrections reach the track."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from deep_3drecon import camera, clip_views
from deep_3drecon.clip_refinement import refine_learned
from deep_3drecon.clip_regressor import ClipNetwork, ClipRegressor, Correction, refit, unbiased
from deep_3drecon.clip_views import POINTS, Viewer, corrected, logarithms
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmark_bias import bias
from deep_3drecon.photometric import refine_clip, with_parts


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


@pytest.fixture(scope="module")
def untrained(head):
    torch.manual_seed(0)
    return ClipRegressor(ClipNetwork(len(corrected(head.expression_names)), width=6, hidden=16))


def cuts_of(turn):
    """Crops and mouths of a film."""
    pairs = zip(turn.frames, turn.truth.crop, strict=True)
    return [np.stack(pictures) for pictures in zip(*(clip_views.cut(*pair) for pair in pairs), strict=True)]


def test_a_turning_head_stands_still_in_its_views(head, made_turn):
    (crops, mouths), viewer = cuts_of(made_turn), Viewer(head)
    _, face = viewer.look(viewer.sheets_of(made_turn.truth), made_turn.truth, crops, mouths)
    inner = logarithms(face)[:, 24:64, 18:46, 0]  # without the outline, which a turn changes
    plain = logarithms(crops)[:, 60:180, 65:160, 0]
    assert inner.std(0).mean() < 0.6 * plain.std(0).mean()


def test_the_mouth_is_cut_where_it_is_in_the_crop_and_in_the_pixels_of_the_frame():
    crop, (left, top, width, height) = np.float64([[0.5, 0.02, -3], [-0.02, 0.5, 4]]), clip_views.MOUTH_WINDOW
    frame = np.zeros((448, 448, 3), np.float32)
    frame[..., 0], frame[..., 1] = np.meshgrid(np.arange(448), np.arange(448))
    whole, mouth = clip_views.cut(frame, crop)
    halved = cv2.resize(mouth, (width, height), interpolation=cv2.INTER_AREA)
    # averaged two by two first, a frame's crop is a fraction of a pixel off at most
    assert np.abs(halved - whole[top : top + height, left : left + width])[..., :2].max() < 0.5
    checks = np.repeat(np.uint8(255 * (np.indices((448, 448)).sum(0) // 2 % 2))[..., None], 3, 2)
    crop, mouth = clip_views.cut(checks, np.float64([[0.5, 0, -0.25], [0, 0.5, -0.25]]))
    assert mouth.std() > 100 > 80 > crop[80:200, 50:180].std()


def test_true_landmarks_have_no_miss_and_moved_ones_their_own(head, made_turn):
    truth, viewer = made_turn.truth, Viewer(head)
    assert np.abs(viewer.misses(truth)).max() < 0.2  # eyeballs turn as if they were flat
    moved = truth.landmarks + np.float32([3, 0]) / truth.crop[:, :1, :1]
    length = np.linalg.norm(viewer.misses(truth, moved), axis=-1)
    assert np.allclose(length, 3, atol=0.2)


def test_a_network_that_knows_nothing_leaves_the_clip_as_it_is(head, untrained, made_turn, shaken):
    correction, parts = untrained.correct(shaken, made_turn.frames, head), shaken.parts()
    for now, before in (("exp", parts["exp"]), ("angle", parts["angle"]), ("id", parts["id"][0])):
        assert np.allclose(getattr(correction, now), before, atol=1e-6)
    assert np.allclose(correction.places, Viewer(head).fitted(shaken)[:, POINTS], atol=1e-6)


def test_chunks_and_way_of_reading_do_not_matter(head, untrained, made_turn, shaken, monkeypatch):
    torch.nn.init.normal_(untrained.network.out.weight)
    whole = vars(untrained.correct(shaken, made_turn.frames, head))
    monkeypatch.setattr("deep_3drecon.clip_regressor.CHUNK", 7)
    parts = vars(untrained.correct(shaken, lambda: iter(made_turn.frames), head))
    torch.nn.init.zeros_(untrained.network.out.weight)
    assert np.abs(whole["exp"] - shaken.parts()["exp"]).max() > 0.01
    for name in whole:
        assert np.allclose(whole[name], parts[name], atol=1e-4), name


def test_saved_and_loaded_it_says_the_same(untrained, tmp_path):
    untrained.save(tmp_path, seed=7)
    loaded = ClipRegressor.load(tmp_path)
    assert loaded.facts["seed"] == 7
    views = [torch.rand(1, 3, 2, *size) for size in (clip_views.MOUTH_SIZE, clip_views.FACE_SIZE)]
    numbers = torch.rand(1, 3, len(untrained.network.usual))
    with torch.no_grad():
        ours, theirs = (r.network(*views, numbers)["points"] for r in (untrained, loaded))
    assert torch.allclose(ours, theirs, atol=1e-2)


def knows_all(turn, head):
    """The correction of one who knows the truth of a film."""
    parts = turn.truth.parts()
    places = unbiased(turn.truth)[:, POINTS].numpy()
    return Correction(parts["exp"], parts["angle"], parts["id"][0], places)


def test_refit_finds_the_places_of_a_known_face(head, made_turn):
    """Truth whose places are lost comes back from the true landmarks."""
    truth, parts = made_turn.truth, made_turn.truth.parts()
    lost = with_parts(truth, head, trans=torch.zeros(len(truth), 3))
    again = refit(lost, knows_all(made_turn, head), head)
    assert np.abs(again.parts()["trans"] - parts["trans"]).max() < 0.01
    moved = corrected(head.expression_names)
    assert np.abs(again.parts()["exp"] - parts["exp"])[:, moved].max() < 0.05


class Adviser:
    """Takes the place of a regressor; says what it is told to."""

    def __init__(self, correction):
        self.correction = correction

    def correct(self, track, frames, model, bias=None):
        return self.correction


def test_good_advice_is_followed_and_bad_advice_leaves_what_pixels_say(head, made_turn, shaken, monkeypatch):
    monkeypatch.setattr("deep_3drecon.clip_refinement.ENOUGH", 5)  # every second frame decides
    some = slice(None, None, 3)
    film, track = replace(made_turn, truth=made_turn.truth.select(some)), shaken.select(some)
    frames, truth = made_turn.frames[some], knows_all(film, head)
    # the track lies in the crop of its own landmarks, the truth in another
    change = camera.apply_affine(torch.from_numpy(film.truth.landmarks), torch.from_numpy(track.crop))
    good, followed = refine_learned(
        track, frames, head, bias, regressor=Adviser(replace(truth, places=change[:, POINTS].numpy()))
    )
    assert followed
    assert np.abs(good.parts()["angle"] - truth.angle).mean() < np.abs(track.parts()["angle"] - truth.angle).mean()
    rng = np.random.default_rng(0)
    bad = replace(truth, id=truth.id + rng.normal(0, 3, 80), angle=truth.angle + 0.4, places=truth.places + 25)
    kept, followed = refine_learned(track, frames, head, bias, regressor=Adviser(bad))
    assert not followed and np.array_equal(kept.coeff, refine_clip(track, frames, head, bias).coeff)


@pytest.fixture(scope="module")
def learned(head, made_turn, shaken):
    return refit(shaken, ClipRegressor.load().correct(shaken, made_turn.frames, head), head)


def test_released_weights_know_a_mouth_better_than_the_fit(head, made_turn, shaken, learned):
    moved, true = corrected(head.expression_names), made_turn.truth.parts()["exp"]

    def alike(track):
        pairs = [(track.parts()["exp"][:, k], true[:, k]) for k in moved if true[:, k].std() > 0.03]
        return np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs])

    assert alike(learned) > alike(shaken)
