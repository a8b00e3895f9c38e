"""Styles on the command line: what comes out is what the arithmetic says."""

import json

import numpy as np
import pytest

from models.style import STYLE_PARTS, Style
from scripts import styles
from tests.made_person import made_track


@pytest.fixture
def files(tmp_path):
    """Two styles measured on made tracks, by the command."""
    for name, seed in (("a", 0), ("b", 1)):
        track = made_track(60, seed=seed)
        track.save(tmp_path / f"{name}.npz")
        assert styles.main(["measure", str(tmp_path / f"{name}.npz"), "--output", str(tmp_path / f"{name}.json")]) == 0
    return tmp_path


def test_measured_blended_scaled_averaged(files, capsys):
    a, b = (Style.load(files / f"{name}.json") for name in "ab")
    direct = Style.from_statistics(made_track(60, seed=0))
    np.testing.assert_allclose(a.vector(), direct.vector(), rtol=1e-5, atol=1e-7)
    run = {
        "blend": ["blend", files / "a.json", files / "b.json", "--weights", "0.25", "0.75"],
        "average": ["average", files / "a.json", files / "b.json"],
        "scale": ["scale", files / "a.json", "--strength", "2"],
        "mean": ["scale", files / "a.json", "--strength", "0", "--from_mean"],
    }
    for name, arguments in run.items():
        assert styles.main([*map(str, arguments), "--output", str(files / f"{name}.json")]) == 0
    made = {name: Style.load(files / f"{name}.json") for name in run}
    np.testing.assert_allclose(made["blend"].vector(), 0.25 * a.vector() + 0.75 * b.vector(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made["average"].vector(), (a.vector() + b.vector()) / 2, rtol=1e-5, atol=1e-6)
    for part in STYLE_PARTS:
        factor = 1 if part == "mean_exp" else 2
        np.testing.assert_allclose(made["scale"].parts[part], factor * a.parts[part], rtol=1e-5)
    mean, _ = styles.corpus(styles.DEFAULT)
    np.testing.assert_allclose(made["mean"].vector(), mean.vector(), rtol=1e-4, atol=1e-6)


def test_several_clips_are_averaged(files):
    clips = [str(files / "a.npz"), str(files / "b.npz")]
    assert styles.main(["measure", *clips, "--output", str(files / "both.json")]) == 0
    halves = [Style.load(files / f"{name}.json").vector() for name in "ab"]
    np.testing.assert_allclose(Style.load(files / "both.json").vector(), np.mean(halves, 0), rtol=1e-5, atol=1e-6)


def test_ten_released_styles_from_lively_to_restrained(capsys):
    assert styles.main(["list", "--json"]) == 0
    released = json.loads(capsys.readouterr().out)
    assert len(released) >= 10 and all(entry["source"] for entry in released.values())
    assert released["lively"]["expression"] > released["grid_s1"]["expression"] > released["restrained"]["expression"]
    assert styles.main(["list"]) == 0 and "blinks a minute" in capsys.readouterr().out


def test_a_checkpoint_is_named_before_or_after_the_command(tmp_path):
    for line in (["--checkpoint_dir", "x", "list"], ["list", "--checkpoint_dir", "x"]):
        assert str(styles.parse(line).checkpoint_dir) == "x"
    assert styles.parse(["list"]).checkpoint_dir == styles.DEFAULT


def test_compare_counts_in_deviations(files, capsys):
    assert styles.main(["compare", str(files / "a.json"), str(files / "a.json"), "lively", "--json"]) == 0
    ((_, found),) = json.loads(capsys.readouterr().out).items()
    assert found[str(files / "a.json")]["all"] == 0 and found["lively"]["all"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["blend", "lively", "grid_s1", "--weights", "1", "--output", "x.json"], "one for each"),
        (["scale", "nobody", "--strength", "1", "--output", "x.json"], "released are"),
        (["compare", "lively"], "two or more"),
        (["measure", "nothing.mp4", "--output", "x.json"], "nothing.mp4"),
    ],
)
def test_what_is_wrong_is_said(arguments, said, capsys):
    assert styles.main(arguments) == 1 and said in capsys.readouterr().err
