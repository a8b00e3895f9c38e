"""Clips of a speaker become one clip: coordinates stay, identity is shared, cuts are known; and the folder trains a renderer."""

from types import SimpleNamespace

import numpy as np
import pytest

from data_process import people
from data_process.people import joined, main, make_folder, speakers_of
from data_process.pictures import Footage
from tests.made_person import made_texture, made_track


def clip(n, size, seed):
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(n)]
    track = made_track(n, size, seed)
    track.layout.split(track.coeff)["id"][:] = seed
    return frames, track


def test_joined_clips_keep_their_coordinates_and_share_an_identity():
    clips = [clip(6, (64, 48), 1), clip(8, (60, 50), 2)]
    frames, track, cuts = joined(clips)
    assert cuts == [6] and len(frames) == len(track) == 14
    assert track.frame_size == (64, 50) and all(frame.shape == (50, 64, 3) for frame in frames)
    assert np.array_equal(frames[7][:, :60], clips[1][0][1]) and np.array_equal(frames[0][:48], clips[0][0][0])
    assert np.array_equal(track.crop[6:], clips[1][1].crop)
    assert np.allclose(track.parts()["id"], (6 * 1 + 8 * 2) / 14)
    assert np.flatnonzero(~track.valid).tolist() == [4, 5, 6, 7]
    assert clips[0][1].valid.all()


def test_whole_clips_are_held_out_and_the_folder_is_read_by_pictures(tmp_path, monkeypatch):
    # refinement and atlas have tests of their own
    monkeypatch.setattr(people, "refine_track", lambda track, frames: track)
    monkeypatch.setattr(people, "build_atlas", lambda *arguments: made_texture())
    clips = [clip(10, (64, 48), k) for k in range(5)]
    make_folder(clips, tmp_path / "one", 0.25, {"name": "one"})
    person = Footage.load(tmp_path / "one", 32, 1.5)
    assert person.learning == (0, 40) and len(person) == 50
    assert person.shot.tolist() == [k for k in range(5) for _ in range(10)]


def test_clips_are_grouped_by_speaker_in_the_order_of_names():
    clips = {
        "train": [{"name": "b", "speaker": "x"}, {"name": "c", "speaker": "y"}],
        "val": [{"name": "a", "speaker": "x"}],
    }
    store = SimpleNamespace(clips=clips.get)
    assert speakers_of(store, ("train", "val")) == {"x": [("val", 0), ("train", 0)], "y": [("train", 1)]}


def test_what_cannot_be_read_is_refused(tmp_path, capsys):
    assert main(["--lmdb", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    assert "no LMDB store" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--lmdb", "x", "--output", "y", "--hold_out", "0.9"])
