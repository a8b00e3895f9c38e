"""From stores of other systems to a training batch: their coefficients in a store of ours, as they are or on the open head."""

import io
import json
import os
import pickle
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
import simplejpeg
import soundfile
from scipy.io import savemat

from data_process import build_lmdb, originals, stats
from data_process.dataset import WindowDataset
from data_process.face_tracks import landmarker
from data_process.store import Store
from data_process.video import VideoWriter, read_frames
from deep_3drecon import assets
from deep_3drecon.align import RESCALE, TEMPLATE
from deep_3drecon.coeffs import BFM_LAYOUT
from deep_3drecon.face_model import load_face_model
from tests.data_process import made

T, SIZE, FACE_PX = 22, (240, 200), 100
SCALE = 150 / FACE_PX  # of made.head_frames: crop pixels to one of its own


def little_basel(folder):
    """BFM_model_front.mat of the open head's skin -> mixing (52, 64): its expressions are the open head's times this."""
    head = load_face_model("open")
    triangles = head.triangles[np.isin(head.triangles, head.regions["skin"]).all(1)]
    kept, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    mean, n = head.mean.numpy()[kept], len(kept)
    marks = head.landmarks(head.mean, 68).numpy()
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 52)))[0].T.astype(np.float32)
    arrays = {
        "meanshape": mean.reshape(1, -1), "meantex": np.full((1, 3 * n), 128.0),
        "idBase": head.id_basis.numpy()[kept].reshape(-1, 80),
        "exBase": head.exp_basis.numpy()[kept].reshape(-1, 52) @ mixing, "texBase": np.zeros((3 * n, 80), np.float32),
        "tri": triangles + 1, "point_buf": np.ones((n, 8)), "tri_mask2": triangles + 1,
        "keypoints": np.linalg.norm(mean[None] - marks[:, None], axis=-1).argmin(1)[None] + 1,
        "frontmask2_idx": np.arange(n)[:, None] + 1, "skinmask": np.ones((1, n)),
    }  # fmt: skip
    folder.mkdir(parents=True)
    savemat(folder / "BFM_model_front.mat", arrays)
    shift = mean.mean(0, dtype=np.float64).astype(np.float32)  # the reader moves the mean of the vertices to the origin
    return mixing, shift


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of assets with a Basel-like model; a film of the mean open head, and its coefficients in that model."""
    folder = tmp_path_factory.mktemp("world")
    for path in assets.assets_dir().iterdir():
        if path.is_file():
            (folder / path.name).symlink_to(path.resolve())
    mixing, shift = little_basel(folder / "bfm")
    t = np.arange(T)
    exp = np.zeros((T, 52), np.float32)
    exp[:, load_face_model("open").index("jawOpen")] = 0.35 * (1 - np.cos(2 * np.pi * 2 * t / 25)) / 2
    angle = np.stack([0.05 * np.sin(t / 9), 0.08 * np.sin(t / 13), 0 * t], 1)
    coeff = BFM_LAYOUT.join(exp=exp @ mixing, angle=angle, trans=np.tile(shift, (T, 1))).astype(np.float32)
    film = folder / "film.mp4"
    with VideoWriter(film, crf=8) as video:
        for frame in made.head_frames(T, SIZE, FACE_PX):
            video.write(frame)
    found = landmarker().track(read_frames(film))
    # the alignment of which the film's own crop is the result
    place = np.array([SIZE[0] / 2, SIZE[1] - 1 - SIZE[1] / 2 + 1 / SCALE])
    return SimpleNamespace(folder=folder, film=film, exp=exp, angle=angle, coeff=coeff, found=found, place=place)


@pytest.fixture
def installed(world, monkeypatch):
    monkeypatch.setenv("IDIOLECT_ASSETS", str(world.folder))
    return world


def five_points(world):
    up = TEMPLATE[:, :2] * (RESCALE / SCALE) + world.place
    return np.tile(np.stack([up[:, 0], SIZE[1] - 1 - up[:, 1]], 1), (T, 1, 1))


def wav_bytes():
    file = io.BytesIO()
    soundfile.write(file, made.tone(T / 25), 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def ted_clips(world, tmp_path):
    """The film as two clips for training, one of which becomes validation, out of a store of style_avatar."""
    env = lmdb.open(str(tmp_path / "ted"), map_size=1 << 26, max_dbs=64)
    with env.begin(write=True) as txn:
        for key in (b"0", b"1"):
            values = {
                "video": world.film.read_bytes(), "audio": wav_bytes(), "lm5": pickle.dumps(five_points(world)),
                "coeff": pickle.dumps(world.coeff),
            }  # fmt: skip
            for record, value in values.items():
                txn.put(key, value, db=env.open_db(f"train_{record}".encode(), txn=txn))
    env.close()
    clips = tmp_path / "clips"
    assert originals.main(["--ted_hd", str(tmp_path / "ted"), "--output", str(clips)]) == 0
    save_landmarks(world, clips, "train_00000", "train_00001")
    return clips


def save_landmarks(world, clips, *names):
    """What the build would find, found once for all tests."""
    found = world.found
    for name in names:
        np.savez(
            clips / f"{name}.landmarks.npz", points=found.points, scores=found.scores, valid=found.valid,
            frame_size=found.frame_size,
        )  # fmt: skip


def build(clips, output, *options):
    tables = ["--split", str(clips / "split.json"), "--speaker_from", str(clips / "speakers.json")]
    return build_lmdb.main(["--clips", str(clips), "--output", str(output), *tables, *options])


def test_stored_coefficients_train_in_their_own_model(installed, ted_clips, tmp_path):
    path = tmp_path / "bfm.lmdb"
    assert build(ted_clips, path, "--tracks", "stored", "--face_model", "bfm") == 0
    store = Store(path)
    np.testing.assert_array_equal(store.array("train", "coeff", 0), installed.coeff)
    about = store.clips("train")[0]
    # their face, drawn through the alignment that came with it, lies on the landmarks that we find in the film
    assert about["reprojection"] < 6 and about["lip_correlation"] > 0.95 and about["tracked"] == 1
    assert stats.main(["--lmdb", str(path)]) == 0
    batch = WindowDataset(path, "train", n_frames=8, context=2)[0]
    assert batch["exp"].shape == (8, 64) and batch["phonemes"].shape == (24, 40) and batch["valid"].all()
    assert json.loads((path / "stats.json").read_text())["face_model"] == "bfm"


def test_stored_coefficients_move_to_the_open_head(installed, ted_clips, tmp_path):
    path = tmp_path / "open.lmdb"
    assert build(ted_clips, path, "--tracks", "stored") == 0
    track = Store(path).track("train", 0)
    parts = track.parts()
    assert track.face_model == "open" and Store(path).clips("train")[0]["reprojection"] < 6
    jaw = load_face_model("open").index("jawOpen")
    assert np.abs(parts["exp"][:, jaw] - installed.exp[:, jaw]).max() < 0.08
    assert np.abs(np.delete(parts["exp"], jaw, 1)).mean() < 0.02
    assert np.degrees(np.abs(parts["angle"] - installed.angle)).max() < 1
    assert WindowDataset(path, "train", n_frames=8, context=2)[0]["exp"].shape == (8, 52)


def test_our_own_fit_moves_to_the_model_that_is_asked_for(installed, ted_clips, tmp_path):
    path = tmp_path / "own.lmdb"
    assert build(ted_clips, path, "--face_model", "bfm") == 0
    track = Store(path).track("train", 0)
    assert track.face_model == "bfm" and track.coeff.shape == (T, 257)
    assert Store(path).clips("train")[0]["reprojection"] < 6
    jaw = installed.exp[:, load_face_model("open").index("jawOpen")]
    direction = np.linalg.lstsq(jaw[:, None], BFM_LAYOUT.split(installed.coeff)["exp"], rcond=None)[0][0]
    assert np.corrcoef(track.parts()["exp"] @ direction, jaw)[0, 1] > 0.95


def test_without_the_basel_model_the_build_says_what_is_needed(world, ted_clips, tmp_path, monkeypatch, capsys):
    others = tmp_path / "assets"
    others.mkdir()
    for path in world.folder.iterdir():
        if path.is_file():
            os.symlink(path.resolve(), others / path.name)
    monkeypatch.setenv("IDIOLECT_ASSETS", str(others))
    for model in ("open", "bfm"):
        assert build(ted_clips, tmp_path / f"{model}.lmdb", "--tracks", "stored", "--face_model", model) == 1
        assert "BFM_model_front.mat: missing" in capsys.readouterr().err


def test_coefficients_of_another_clip_leave_it_out(installed, ted_clips, tmp_path, capsys):
    cut = np.load(ted_clips / "train_00000.coeff.npz")
    arrays = {k: cut[k][:-1] if k in ("coeff", "landmarks", "crop", "valid", "scores") else cut[k] for k in cut.files}
    np.savez(ted_clips / "train_00000.coeff.npz", **arrays)
    (ted_clips / "train_00001.coeff.npz").unlink()
    assert build(ted_clips, tmp_path / "x.lmdb", "--tracks", "stored", "--face_model", "bfm") == 1
    told = capsys.readouterr().out
    assert "21 rows at 25 fps for 22 frames" in told and "train_00001.coeff.npz: missing" in told


def test_a_pirender_store_goes_the_same_way(installed, tmp_path):
    env = lmdb.open(str(tmp_path / "mead"), map_size=1 << 26)
    name = "M003#happy#level_1#001"
    with env.begin(write=True) as txn:
        for t, frame in enumerate(read_frames(installed.film)):
            txn.put(f"{name}-{t:07d}".encode(), simplejpeg.encode_jpeg(frame, quality=95))
        alignment = np.tile(np.float32([SCALE, *installed.place]), (T, 1))
        txn.put(f"{name}-length".encode(), f"{T:07d}".encode())
        txn.put(f"{name}-coeff_3dmm".encode(), np.hstack([installed.coeff, alignment]).tobytes())
    env.close()
    (tmp_path / "list.json").write_text(json.dumps([name]))
    clips = tmp_path / "clips"
    command = ["--pirender", str(tmp_path / "mead"), "--allow_silent", "--lists", f"train={tmp_path / 'list.json'}"]
    assert originals.main([*command, "--output", str(clips)]) == 0
    save_landmarks(installed, clips, name)
    assert build(clips, tmp_path / "x.lmdb", "--tracks", "stored", "--face_model", "bfm") == 0
    about = Store(tmp_path / "x.lmdb").clips("train")[0]
    assert about["speaker"] == "M003" and about["reprojection"] < 6
