"""How well a style steers, on methods whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from deep_3drecon.track import FPS
from models.style import STYLE_PARTS, Style
from scripts.evaluation import control

N, T = 3, 20 * FPS
SIZES = {"std_exp": N, "std_exp_change": N, "std_pose_change": 7, "std_pose": 7, "mean_exp": N}


def style(mean):
    """Style that differs from others in the mean expression only."""
    return Style({name: np.full(size, mean if name == "mean_exp" else 0.1, np.float32) for name, size in SIZES.items()})


class Method:
    """Speaks every sound with `gain` times the mean expression asked for, and `content` times the number of the sound."""

    def __init__(self, gain=1.0, content=0.0):
        self.gain, self.content, self.mean_style = gain, content, style(0.2)

    def generate(self, features, style, n_frames, seed):
        wave = 0.05 * np.sin(np.arange(n_frames)[:, None] * np.array([0.5, 0.7, 0.9]))
        sound = self.content * features["number"] * np.array([1.0, -1.0, 0.5])
        return {
            "exp": self.gain * style.parts["mean_exp"] + sound + wave,
            "angle": np.zeros((n_frames, 3)),
            "trans": np.zeros((n_frames, 3)),
        }


@pytest.fixture
def bench(monkeypatch):
    """Bench of three people with a sound each; give it a method."""
    monkeypatch.setattr(control, "read_features", lambda store, window: {"number": store[window.name]})
    people = {"a": 0.1, "b": 0.5, "c": 0.8}
    cases = [
        SimpleNamespace(name=name, speaker=name, style=(name,), other=(other,), window=Window(name))
        for name, other in zip("abc", "bca", strict=True)
    ]
    std = np.zeros(sum(SIZES.values()))
    std[-N:] = 0.1
    return lambda method: SimpleNamespace(
        method=method, cases=cases, style_std=std, store={"a": 1, "b": 2, "c": 3},
        codes=SimpleNamespace(average=lambda names: style(people[names[0]])), config=SimpleNamespace(control=3, seeds=[0]),
    )  # fmt: skip


class Window(str):
    """A window of T frames."""

    name = property(str)

    def __len__(self):
        return T


def test_a_style_that_is_obeyed_steers_straight_and_fully(bench):
    found = control.measure(bench(Method()))
    assert found["strength_rank"] == 1 and found["strength_gain"] == pytest.approx(1, abs=1e-3)
    assert found["blend_bend"] == pytest.approx(0, abs=1e-3) and found["blend_progress"] == 1
    assert found["content_share"] < 1e-3 and found["style_share"] > 0.999


def test_a_timid_method_and_one_that_hears_only_the_sound(bench):
    assert control.measure(bench(Method(gain=0.4)))["strength_gain"] == pytest.approx(0.4, abs=1e-3)
    assert control.measure(bench(Method(gain=-1)))["strength_rank"] == -1
    deaf = control.measure(bench(Method(gain=0, content=0.1)))
    assert "strength_rank" not in deaf and deaf["strength_gain"] == pytest.approx(0, abs=1e-6)
    assert deaf["content_share"] == pytest.approx(1) and deaf["style_share"] == pytest.approx(0, abs=1e-9)


def test_no_sounds_asked_for_and_which_are_taken(bench):
    silent = bench(Method())
    silent.config.control = 0
    assert control.measure(silent) == {}
    assert control.chosen(list(range(10)), 3) == [0, 4, 9] and control.chosen([1, 2], 5) == [1, 2]
    assert set(SIZES) == set(STYLE_PARTS)
