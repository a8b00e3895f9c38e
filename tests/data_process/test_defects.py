"""Planted defects: what was asked for is in the clip, and nothing else."""

import json

import numpy as np
import pytest

from data_process.defects import DEFECTS, HARMLESS, plant


@pytest.fixture(scope="module")
def clip():
    """60 frames of smooth noise, each different, with noise as sound: frame t can be told from every other."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (60, 12, 16, 3), dtype=np.uint8)
    frames = small.repeat(6, 1).repeat(6, 2)
    return frames, rng.normal(0, 0.1, 60 * 640).astype(np.float32)


def planted(clip, kind, strength=0.5, seed=0):
    return plant(kind, *clip, np.random.default_rng(seed), strength)


def shown(frames, original):
    """Which original frame each frame is."""
    return [int(np.abs(original.astype(int) - frame).mean((1, 2, 3)).argmin()) for frame in frames]


@pytest.mark.parametrize("kind", [*DEFECTS, *HARMLESS])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_every_kind_leaves_a_whole_clip_and_the_given_one_as_it_was(clip, kind, strength):
    before = [part.copy() for part in clip]
    frames, wav, fps, truth = planted(clip, kind, strength)
    assert frames.dtype == np.uint8 and frames.ndim == 4 and wav.dtype == np.float32 and wav.ndim == 1 and fps > 0
    assert truth["kind"] == kind and json.dumps(truth)
    assert all((now == then).all() for now, then in zip(clip, before, strict=True))
    again = planted(clip, kind, strength)
    assert (frames == again[0]).all() and (wav == again[1]).all() and truth == again[3]


@pytest.mark.parametrize("seed", range(4))
def test_sound_is_shifted_by_what_the_truth_says(clip, seed):
    frames, wav, _, truth = planted(clip, "audio_shift", 0.5, seed)
    assert len(wav) == 640 * len(frames)
    first = shown(frames[:1], clip[0])[0]
    start = int(np.flatnonzero(clip[1] == wav[0])[0]) // 640
    assert abs(truth["offset_frames"]) in (6, 7) and first - start == truth["offset_frames"]


def test_dropped_and_doubled_frames_are_those_of_the_truth(clip):
    frames, wav, _, truth = planted(clip, "dropped_frames", 1.0)
    assert shown(frames, clip[0]) == [t for t in range(60) if t not in truth["frames"]]
    assert len(truth["frames"]) == 12 and len(wav) == 60 * 640
    frames, _, _, truth = planted(clip, "doubled_frames", 1.0)
    for t in range(1, 60):
        assert (t in truth["frames"]) == (frames[t] == frames[t - 1]).all()


def test_wrong_rate_keeps_everything_and_honest_rate_takes_the_sound_along(clip):
    frames, wav, fps, truth = planted(clip, "wrong_fps", 0.0)
    assert (fps, truth["true_fps"]) == (24, 25) and len(frames) == 60 and len(wav) == 60 * 640
    frames, wav, fps, _ = planted(clip, "other_fps")
    assert abs(len(wav) / 16000 - len(frames) / fps) < 0.001 and fps in (24, 30)


def test_silence_covers_its_stretch_only(clip):
    _, wav, _, truth = planted(clip, "silence", 0.2)
    start, stop = round(truth["start_s"] * 16000), round(truth["stop_s"] * 16000)
    assert np.abs(wav[start:stop]).max() < 0.005 and (wav[:start] == clip[1][:start]).all()
    assert (stop - start) / len(wav) == pytest.approx(0.6, abs=0.01)
    assert not planted(clip, "silence", 1.0)[1].any()


def test_pictures_change_as_named(clip):
    original = clip[0].astype(float)
    blurred = planted(clip, "blur", 1.0)[0].astype(float)
    assert np.abs(np.diff(blurred, axis=2)).mean() < 0.5 * np.abs(np.diff(original, axis=2)).mean()
    wide = planted(clip, "second_face", 1.0)[0]
    assert wide.shape[2] == 2 * 96 and shown(wide[:, :, :96], clip[0]) in (
        list(range(60)),
        shown(wide[:, :, :96], clip[0]),
    )
    frames, _, _, truth = planted(clip, "cut", 1.0)
    assert (frames[: truth["frame"]] == clip[0][: truth["frame"]]).all()
    assert np.abs(frames[truth["frame"] :].astype(float) - original[truth["frame"] :]).mean() > 10


def test_what_cannot_be_planted_is_said(clip):
    with pytest.raises(ValueError, match="choose from audio_shift"):
        planted(clip, "rain")
    with pytest.raises(ValueError, match="needed 0 to 1"):
        planted(clip, "blur", 2.0)
    with pytest.raises(ValueError, match="25 frames or more"):
        plant("blur", clip[0][:9], clip[1], np.random.default_rng(0))
