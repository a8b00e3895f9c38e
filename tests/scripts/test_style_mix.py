"""Between two styles: constant shares and shares that change over the video."""

from types import SimpleNamespace

import numpy as np
import pytest

from models import checkpoint
from models.style import Style
from scripts.inference import motion
from scripts.inference.options import parse
from scripts.styles import DEFAULT

N = 60
START = ["--source_image", "a.png", "--driven_audio", "b.wav"]


@pytest.fixture(scope="module")
def made():
    method = checkpoint.load(DEFAULT)
    rng = np.random.default_rng(0)
    sizes = {"phonemes": 40, "mel": 40, "energy": 1}
    features = {name: rng.random((2 * N, n), np.float32) for name, n in sizes.items()}
    styles = [Style.load(DEFAULT / "styles" / f"{name}.json") for name in ("lively", "restrained")]
    args = SimpleNamespace(seed=0, no_blinks=False, pose="generated", pose_scale=1.0)
    return method, features, styles, args


def test_a_constant_share_is_the_blended_style(made):
    method, features, styles, args = made
    mixed, style = motion.generate_between(method, features, styles, (0.25, 0.25), N, args)
    plain = motion.generate(method, features, Style.interpolate(*styles, 0.25), N, args)
    assert all(np.array_equal(mixed[name], plain[name]) for name in plain)
    np.testing.assert_allclose(style.vector(), 0.75 * styles[0].vector() + 0.25 * styles[1].vector(), rtol=1e-5)


def test_a_video_begins_in_one_style_and_ends_in_the_other(made):
    method, features, styles, args = made
    mixed, _ = motion.generate_between(method, features, styles, (0.0, 1.0), N, args)
    ends = [method.generate(features, style, N, blinks=False) for style in styles]
    still = [k for k in range(52) if k not in method.blink_columns]
    for frame, end in ((0, ends[0]), (N - 1, ends[1])):
        np.testing.assert_allclose(mixed["exp"][frame, still], end["exp"][frame, still], atol=2e-3)
        np.testing.assert_allclose(mixed["angle"][frame], end["angle"][frame], atol=1e-5)
    assert 0 <= mixed["exp"].min() and mixed["exp"].max() <= 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--style_clip", "lively", "--style_mix", "0.5"], "give --style_clip FIRST SECOND"),
        (["--style_clip", "lively", "restrained", "--style_mix", "1.5"], "from 0 to 1"),
        (["--style_clip", "lively", "restrained", "--style_mix", "0", "1", "0"], "one or two"),
    ],
)
def test_shares_that_cannot_be(given, said, capsys):
    with pytest.raises(SystemExit):
        parse([*START, *given])
    assert said in capsys.readouterr().err


def test_shares_are_read():
    assert parse([*START, "--style_clip", "lively", "restrained", "--style_mix", "0", "1"]).style_mix == [0.0, 1.0]
