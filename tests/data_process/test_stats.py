"""Statistics of the train split against numpy over everything at once."""

import json

import numpy as np
import pytest

from data_process import schema, stats
from data_process.schema import StoreError
from data_process.stats import Moments, compute, main
from data_process.store import Store
from deep_3drecon.track import style_statistics
from tests.data_process import made

CLIPS = [
    ("a", "train", "ann", 70, (3, 4)),
    ("b", "train", "bob", 90, ()),
    ("c", "train", "ann", 60, ()),
    ("d", "test", "eve", 80, ()),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return made.store(tmp_path_factory.mktemp("stats") / "x.lmdb", CLIPS)


def test_moments_do_not_depend_on_the_blocks():
    rows = np.random.default_rng(0).normal(1e4, 1e-2, (1000, 3)) * [1, 10, 100]
    expected = rows.mean(0), rows.std(0)
    for cuts in ([], [1], [10, 10, 999], [250, 500, 750]):
        moments = Moments()
        for block in np.split(rows, cuts):
            moments.add(block)
        assert np.allclose(moments.mean, expected[0], rtol=1e-12) and np.allclose(moments.std, expected[1], rtol=1e-6)


def test_against_everything_at_once(path):
    reader = Store(path)
    result = compute(reader)
    tracks = [reader.track("train", k) for k in range(3)]
    assert (result["n_clips"], result["n_frames"], result["fps"]) == (3, 218, 25)
    assert result["face_model_hash"] == "made"
    for name in schema.FEATURES:
        rows = np.concatenate([reader.array("train", name, k) for k in range(3)]).astype(np.float64)
        assert np.allclose(result["features"][name]["mean"], rows.mean(0))
        assert np.allclose(result["features"][name]["std"], rows.std(0))
    exp = np.concatenate([t.parts()["exp"][t.valid] for t in tracks])
    assert np.allclose(result["exp"]["mean"], exp.mean(0), atol=1e-6) and np.allclose(
        result["exp"]["std"], exp.std(0), atol=1e-6
    )
    pose = [np.concatenate([t.parts()["angle"], t.parts()["trans"]], 1)[t.valid] for t in tracks]
    pose = np.concatenate([p - p.mean(0) for p in pose])
    assert np.allclose(result["pose"]["mean"], 0, atol=1e-6) and np.allclose(
        result["pose"]["std"], pose.std(0), atol=1e-6
    )
    styles = [style_statistics(t.parts()["exp"], t.parts()["angle"], t.parts()["trans"], 25) for t in tracks]
    styles = np.stack([schema.style_vector(s) for s in styles])
    assert np.allclose(result["style"]["mean"], styles.mean(0), atol=1e-6)
    assert np.allclose(result["style"]["std"], styles.std(0), atol=1e-6)
    assert result["style"]["parts"] == {
        "std_exp": 52,
        "std_exp_change": 52,
        "std_pose_change": 7,
        "std_pose": 7,
        "mean_exp": 52,
    }
    assert sum(result["style"]["parts"].values()) == len(result["style"]["mean"]) == 170


def test_only_the_train_split_counts(path, tmp_path):
    other = made.store(tmp_path / "y.lmdb", [*CLIPS[:3], ("e", "test", "eve", 40, ()), ("f", "val", "eve", 99, ())])
    assert compute(Store(other)) == compute(Store(path))


def test_the_command(path, tmp_path, capsys):
    assert main(["--lmdb", str(path)]) == 0
    assert json.loads((path / "stats.json").read_text()) == json.loads(json.dumps(compute(Store(path))))
    empty = made.store(tmp_path / "empty.lmdb", [("a", "test", "ann", 20, ())])
    assert main(["--lmdb", str(empty)]) == 1
    assert "train holds no clip" in capsys.readouterr().err
    with pytest.raises(StoreError, match="no split"):
        stats.compute(Store(path), "valid")
