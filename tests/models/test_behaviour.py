"""Behaviour: what is measured of a known head is what it does; files; what is refused."""

import numpy as np
import pytest

from models.behaviour import CHANNELS, Behaviour, BehaviourError
from models.headpose_sound import activity
from tests.models.made_heads import AMPLITUDE, REST, head, speech


def test_rest_spread_and_range_are_those_of_the_head():
    curves, lids = head(600, 0)
    b = Behaviour.of_curves(curves, lids, speech(600, 1))
    np.testing.assert_allclose(b.mean, REST, atol=0.6 * AMPLITUDE.max())
    np.testing.assert_allclose(b.mean + b.low, curves.min(0), atol=1e-9)
    np.testing.assert_allclose(b.mean + b.high, curves.max(0), atol=1e-9)
    assert b.slow[0, CHANNELS.index("y")] > 0.4 and abs(b.slow[1, 2]) < 0.4
    assert b.blinks.rate_hz == pytest.approx(1 / 3, abs=0.06)
    assert np.abs(b.answer).sum() < 0.2 * AMPLITUDE.sum()  # this head does not listen


def test_a_head_that_drops_in_pauses_is_known_by_it():
    sound = speech(500, 1)
    curves, lids = head(500, 0)
    curves[:, 0] -= 0.2 * activity(sound, 500)
    b = Behaviour.of_curves(curves[:300], lids[:300], sound[:600])
    from models.headpose_sound import context

    foretold = (context(sound, 500)[300:] - b.answer_mean) @ b.answer
    assert np.corrcoef(foretold[:, 0], curves[300:, 0])[0, 1] > 0.5
    assert foretold[:, 1].std() < 0.3 * foretold[:, 0].std()


def test_two_people_differ_more_than_two_clips_of_one():
    def code(seed, rhythm_s, amplitude):
        return Behaviour.of_curves(*head(300, seed, rhythm_s, amplitude), speech(300, seed)).code()

    a, again, other = code(0, 0.25, 1.0), code(1, 0.25, 1.0), code(2, 0.5, 2.0)
    assert np.abs(a - again).mean() < 0.5 * np.abs(a - other).mean()


def test_a_file_gives_back_what_was_saved(tmp_path):
    b = Behaviour.of_curves(*head(60, 0), speech(60, 0), source="someone")
    b.save(tmp_path / "behaviour.json")
    again = Behaviour.load(tmp_path / "behaviour.json")
    np.testing.assert_allclose(again.spectrum, b.spectrum, rtol=1e-6)
    np.testing.assert_allclose(again.code(), b.code(), rtol=1e-5)
    assert again.source == "someone" and again.blinks == b.blinks and again.n_frames == 60


def test_what_holds_no_behaviour_is_refused(tmp_path):
    with pytest.raises(BehaviourError, match="50"):
        Behaviour.of_curves(*head(49, 0), speech(49, 0))
    (tmp_path / "x.json").write_text('{"format": "other"}')
    with pytest.raises(BehaviourError, match="format"):
        Behaviour.load(tmp_path / "x.json")
    b = Behaviour.of_curves(*head(60, 0), speech(60, 0))
    b.save(tmp_path / "b.json")
    text = (tmp_path / "b.json").read_text()
    (tmp_path / "b.json").write_text(text.replace('"beats"', '"bats"'))
    with pytest.raises(BehaviourError, match="damaged"):
        Behaviour.load(tmp_path / "b.json")


def test_a_still_head_without_sound_is_measured():
    b = Behaviour.of_curves(np.tile(REST, (100, 1)), np.zeros(100), np.zeros((200, 1)))
    assert np.isfinite(b.spectrum).all() and np.abs([b.low, b.high]).max() < 1e-12
