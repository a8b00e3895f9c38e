"""Videos into pieces with their sound, and the face cut out of videos, by the names that people know."""

import json

import numpy as np
import pytest
import soundfile

from data_process import crop_video
from data_process.build_lmdb import find_clips, sources
from data_process.split_video import main, parse
from data_process.video import VideoWriter, probe, read_frames
from tests.data_process import made


def numbered(path, n_frames=24, fps=25, sound=True):
    """A video whose frame t has the level 8 t, and whose sound is as loud as its frame is bright."""
    level = np.repeat(np.arange(n_frames), 16000 // fps) / n_frames
    tone = (level * np.sin(np.arange(len(level)) * 0.3)).astype(np.float32)
    with VideoWriter(path, fps=fps, audio=tone if sound else None, sample_rate=16000 if sound else None) as video:
        for t in range(n_frames):
            video.write(np.full((48, 64, 3), 8 * t, np.uint8))
    return path


def split(path, output, *options):
    return main(["--input", str(path), "--output", str(output), "--seconds", "0.4", "--shortest", "0.2", *options])


def seen(path):
    """Frame numbers of a piece of `numbered`, and how loud its sound is at each, counted as frame numbers too."""
    frames = [round(float(frame.mean()) / 8) for frame in read_frames(path)]
    wav, rate = soundfile.read(path.with_suffix(".wav"))
    assert rate == 16000 and len(wav) == 640 * len(frames)
    return frames, 24 * np.sqrt(2 * np.square(wav.reshape(-1, 640)).mean(1))


def test_picture_and_sound_are_divided_at_the_same_instants(tmp_path, capsys):
    numbered(tmp_path / "talk.mp4")
    assert split(tmp_path / "talk.mp4", tmp_path / "out") == 0
    assert "2 pieces of 1 videos, 0 videos left out" in capsys.readouterr().out  # a rest of 4 frames is too short
    clips = find_clips(tmp_path / "out")
    assert list(clips) == ["talk#0", "talk#1"]
    for k, path in enumerate(clips.values()):
        frames, loudness = seen(path)
        assert frames == list(range(10 * k, 10 * k + 10))
        np.testing.assert_allclose(loudness, frames, atol=0.8)
        assert probe(path).has_audio and probe(path).fps == 25
    about = json.loads((tmp_path / "out" / "talk#1.json").read_text())
    assert (about["start_s"], about["n_frames"]) == (0.4, 10) and about["source"] == str(tmp_path / "talk.mp4")
    assert not list((tmp_path / "out").glob(".part*"))


def test_a_long_enough_rest_is_a_piece(tmp_path):
    numbered(tmp_path / "talk.mp4", 16)
    split(tmp_path / "talk.mp4", tmp_path / "out")
    assert [probe(p).n_frames for p in find_clips(tmp_path / "out").values()] == [10, 6]
    assert (parse(["--input", "a", "--output", "b"]).seconds, parse(["--input", "a", "--output", "b"]).shortest) == (
        5,
        3,
    )


def test_another_rate_is_resampled_by_time(tmp_path):
    numbered(tmp_path / "fast.mp4", 24, fps=50)
    split(tmp_path / "fast.mp4", tmp_path / "out")
    frames, loudness = seen(tmp_path / "out" / "fast#0.mp4")
    assert frames == list(range(0, 20, 2)) and loudness[9] == pytest.approx(18.5, abs=0.8)


def test_finished_videos_are_left_alone_and_stopped_ones_gone_on_with(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in "ab":
        numbered(tmp_path / "in" / f"{name}.mp4")
    out = tmp_path / "out"
    assert split(tmp_path / "in", out) == 0
    before = (out / "a#0.mp4").stat().st_mtime_ns
    content = (out / "b#1.mp4").read_bytes()
    # killed while the second video was put in its place
    ledger = json.loads((out / "pieces.json").read_text())
    del ledger["videos"]["b"]
    (out / "pieces.json").write_text(json.dumps(ledger))
    (out / "b#1.json").rename(out / "b#1.json.part")
    (out / "b#1.wav").unlink()
    (out / ".part-killed").mkdir()
    assert split(tmp_path / "in", out) == 0
    assert (out / "a#0.mp4").stat().st_mtime_ns == before and (out / "b#1.mp4").read_bytes() == content
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(("b", "."))) == [
        "b#0.json", "b#0.mp4", "b#0.wav", "b#1.json", "b#1.mp4", "b#1.wav",
    ]  # fmt: skip
    assert split(tmp_path / "in", out, "--seconds", "0.6") == 1
    assert "pieces of 0.4 s" in capsys.readouterr().err


def test_what_cannot_be_divided_is_told_and_stops_nothing_else(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    numbered(tmp_path / "in" / "good.mp4")
    numbered(tmp_path / "in" / "mute.mp4", sound=False)
    numbered(tmp_path / "in" / "short.mp4", 4)
    (tmp_path / "in" / "text.mp4").write_text("no video")
    out = tmp_path / "out"
    out.mkdir()
    (out / "good#1.mp4").write_bytes(b"somebody's")
    assert split(tmp_path / "in", out) == 0
    told = capsys.readouterr().out
    assert "good: good#1.* is in the way" in told and (out / "good#1.mp4").read_bytes() == b"somebody's"
    assert "mute: no sound" in told and "short: shorter than 0.2 s" in told and "text: " in told
    assert split(tmp_path / "in" / "mute.mp4", tmp_path / "silent", "--allow_silent") == 0
    assert not soundfile.read(tmp_path / "silent" / "mute#1.wav")[0].any()
    assert split(tmp_path / "in", tmp_path / "in" / "pieces") == 1
    assert "lies within the input" in capsys.readouterr().err


def test_a_finished_clip_is_divided_with_its_landmarks_and_own_sound(tmp_path):
    (tmp_path / "clips").mkdir()
    clip = numbered(tmp_path / "clips" / "c.mp4")
    soundfile.write(clip.with_suffix(".wav"), np.full(24 * 640, 0.25), 16000, "PCM_16")
    points = np.arange(24, dtype=np.float32)[:, None, None] + np.zeros((478, 3), np.float32)
    np.savez_compressed(
        tmp_path / "clips" / "c.landmarks.npz", points=points, scores=points[:, :52, 0], valid=np.ones(24, bool),
        frame_size=(64, 48),
    )  # fmt: skip
    clip.with_suffix(".json").write_text(json.dumps({"source": "/data/ann/raw.mp4", "n_frames": 24, "start_s": 2.0}))
    split(tmp_path / "clips", tmp_path / "out")
    with np.load(tmp_path / "out" / "c#1.landmarks.npz") as npz:
        assert npz["points"][:, 0, 0].tolist() == list(range(10, 20)) and npz["frame_size"].tolist() == [64, 48]
    assert np.abs(soundfile.read(tmp_path / "out" / "c#1.wav")[0] - 0.25).max() < 1e-3
    assert sources(find_clips(tmp_path / "out"))["c#1"] == "/data/ann/raw.mp4"
    assert json.loads((tmp_path / "out" / "c#1.json").read_text())["start_s"] == 2.4


def test_the_face_is_cut_out(tmp_path, capsys):
    frames = made.head_frames(26, (260, 240), 80)
    made.write_video(tmp_path / "talk.mp4", frames)  # silent and too small for the build: kept all the same
    command = ["--input", str(tmp_path / "talk.mp4"), "--output", str(tmp_path / "out"), "--size", "128"]
    assert crop_video.main(command) == 0 and "1 clips" in capsys.readouterr().out
    info = probe(tmp_path / "out" / "talk.mp4")
    assert (info.width, info.height, info.n_frames, info.fps) == (128, 128, 26, 25)
    before = (tmp_path / "out" / "talk.mp4").stat().st_mtime_ns
    assert crop_video.main(command) == 0 and (tmp_path / "out" / "talk.mp4").stat().st_mtime_ns == before
    (tmp_path / "other").mkdir()
    numbered(tmp_path / "other" / "talk.mp4")
    assert crop_video.main([command[0], str(tmp_path / "other" / "talk.mp4"), *command[2:]]) == 1
    assert "another output folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        crop_video.main(["--input", str(tmp_path), "--output", str(tmp_path / "out")])
