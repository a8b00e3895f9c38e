"""Styles of a store: means of speakers and moods, and what is made livelier and calmer of them."""

import numpy as np
import pytest

from models.style import Style
from scripts import make_styles, style_retrieval
from tests.scripts import evaluation_world

SPEAKERS, MOODS = ("anna", "bela", "cleo"), ("calm", "glad")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three speakers, each livelier than the one before, two clips each, in two moods."""
    clips = [(f"{who}{mood}", "train", who, 120, {"emotion": mood}) for who in SPEAKERS for mood in MOODS]
    return evaluation_world.store(tmp_path_factory.mktemp("styles") / "x.lmdb", clips)


def test_speakers_moods_and_their_mean(store, tmp_path, capsys):
    assert make_styles.main(["--lmdb", str(store), "--made", str(store), "--output", str(tmp_path / "new")]) == 0
    styles = {path.stem: Style.load(path) for path in (tmp_path / "new").glob("*.json")}
    assert set(styles) == {*SPEAKERS, *MOODS, "lively", "restrained", "broad_face", "busy_head"}
    clips = [Style.from_statistics(evaluation_world.track(120, seed)) for seed in (0, 1)]
    for part in ("std_exp", "std_pose", "mean_exp"):
        wanted = (clips[0].parts[part] + clips[1].parts[part]) / 2
        np.testing.assert_allclose(styles["anna"].parts[part], wanted, rtol=1e-4, atol=1e-6)
    spread = {name: style.parts["std_exp"].sum() for name, style in styles.items()}
    assert spread["anna"] < spread["bela"] < spread["cleo"]
    np.testing.assert_allclose(spread["lively"] / spread["restrained"], 1.4 / 0.6, rtol=1e-4)
    np.testing.assert_allclose(styles["lively"].parts["std_pose"], 1.4 * make_styles.HEAD_SPREAD, rtol=1e-5)
    assert "mean of 2 clips of anna" in capsys.readouterr().out


def test_a_store_that_is_not_there(tmp_path, capsys):
    assert make_styles.main(["--lmdb", str(tmp_path / "no"), "--output", str(tmp_path / "new")]) == 1
    assert "no LMDB store here" in capsys.readouterr().err


def test_speakers_are_found_by_their_halves(store, capsys):
    assert style_retrieval.main(["--lmdb", str(store), "--min_seconds", "2"]) == 0
    said = capsys.readouterr().out
    assert "6 clips of 3 speakers" in said and "too few speakers" in said
    assert style_retrieval.main(["--lmdb", str(store), "--min_seconds", "60"]) == 1
    assert "0 speakers with such clips, at least 3" in capsys.readouterr().err
