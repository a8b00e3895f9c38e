"""Batches for head motion: cepstra meet their frames, stretches of pose come from the speaker."""

import io

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import default_collate

from data_process.poses import BEHAVIOUR_FRAMES, PoseDataset, cepstra, stretch
from deepspeech import SAMPLE_RATE
from deepspeech.mfcc import mfcc_windows
from tests.data_process import made

CLIPS = [
    ("a", "train", "bob", 60, ()),
    ("b", "train", "ann", 40, (3,)),
    ("c", "train", "bob", 20, ()),
    ("d", "val", "eve", 35, ()),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    records = made.records

    def with_sound(n_frames, seed, invalid):
        buffer = io.BytesIO()
        wav = np.random.default_rng(seed).normal(0, 0.1, 640 * n_frames)
        soundfile.write(buffer, wav, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        return records(n_frames, seed, invalid) | {"audio": buffer.getvalue()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "records", with_sound)
        return made.store(tmp_path_factory.mktemp("poses") / "x.lmdb", CLIPS)


def test_cepstra_of_a_window_are_those_of_the_frame():
    wav = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE * 2).astype(np.float32)
    rows, windows = cepstra(wav), mfcc_windows(wav)
    assert rows.shape == (4 * 50 + 24, 13)
    for t in (5, 20, 40):
        np.testing.assert_allclose(rows[4 * t : 4 * t + 28, 1:], windows[t], atol=1e-4)


def test_windows_belong_together(path):
    data = PoseDataset(path, "train", n_frames=16, seed=3)
    assert len(data) == 3 + 2 + 1
    batch = default_collate([data[i] for i in range(len(data))])
    shapes = {
        "mfcc": (6, 16, 28, 12),
        "cepstra": (6, 88, 13),
        "exp": (6, 16, 52),
        "angle": (6, 16, 3),
        "own_pose": (6, 300, 6),
    }
    assert {name: tuple(batch[name].shape) for name in shapes} == shapes
    for i in range(6):
        clip = data.clip(int(batch["clip"][i]))
        where = np.flatnonzero((clip["angle"] == batch["angle"][i, 0].numpy()).all(1))[0]
        np.testing.assert_array_equal(clip["mfcc"][where : where + 16], batch["mfcc"][i])
        np.testing.assert_array_equal(clip["cepstra"][4 * where : 4 * where + 88], batch["cepstra"][i])
        speaker = int(batch["speaker"][i])
        poses = [
            np.concatenate([c["angle"], c["trans"]], 1) for k, c in data._clips.items() if data.speaker_of[k] == speaker
        ]
        assert any((batch["other_pose"][i, 0].numpy() == p).all(1).any() for p in poses)


def test_epochs_differ_and_repeat(path):
    data = PoseDataset(path, "train", n_frames=16)
    first = data[0]["angle"]
    data.set_epoch(1)
    assert not torch.equal(data[0]["angle"], first)
    data.set_epoch(0)
    assert torch.equal(data[0]["angle"], first)


def test_whole_clips_for_validation(path):
    data = PoseDataset(path, "val")
    assert len(data) == 1 and data[0]["exp"].shape == (35, 52) and data[0]["valid"].all()
    wav = soundfile.read(io.BytesIO(data.store.bytes("val", "audio", 0)), dtype="float32")[0]
    assert len(wav) >= 34 * 640


def test_stretch_goes_to_and_fro():
    pose = np.arange(4.0)[:, None]
    assert stretch(pose, 8, 1)[:, 0].tolist() == [1, 2, 3, 2, 1, 0, 1, 2]
    assert len(stretch(pose, BEHAVIOUR_FRAMES)) == BEHAVIOUR_FRAMES
