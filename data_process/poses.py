"""Batches for head motion: cepstra as the headpose papers cut them, poses through one still crop, and other moments of the speaker.

Keys beyond those of `schema.BATCH`: mfcc (B, T, 28, 12); cepstra (B, 4 T + 24, 13), 100 Hz, window t of 28 rows beginning at row 4 t;
own_pose and other_pose (B, 300, 6), two stretches of head pose of the same speaker, played to and fro where the speaker has less.
"""

import io

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset

from data_process import schema
from data_process.store import Store
from deep_3drecon.coeffs import Layout
from deepspeech.mfcc import MFCC_HZ, N_CEPSTRA, WINDOW_ROWS, mfcc_rows, mfcc_windows

BEHAVIOUR_FRAMES = 300
ROWS_PER_FRAME = MFCC_HZ // 25
ROWS_BEFORE = 11  # rows of a window before the first of its frame's own


def cepstra(wav):
    """Cepstra of a sound of T frames as TMM's decoder takes them: (4 T + 24, 13) float32; silence goes on at both ends."""
    rows = mfcc_rows(wav)
    return np.pad(rows, ((ROWS_BEFORE, WINDOW_ROWS - ROWS_PER_FRAME - ROWS_BEFORE), (0, 0)), mode="edge")


class PoseDataset(Dataset):
    """Windows of one split for training (n_frames given), or whole clips."""

    def __init__(self, path, split, n_frames=None, seed=0):
        self.store, self.split, self.n_frames, self.seed = Store(path), split, n_frames, seed
        self.infos = self.store.clips(split)
        if not self.infos:
            raise schema.StoreError(f"{path}: {split} holds no clip: build the store with clips in {split}")
        self.layout, speakers = Layout(**self.store.meta["layout"]), self.store.meta["speakers"]
        self.speaker_of = np.array([speakers.index(info["speaker"]) for info in self.infos])
        self.store.close()  # nothing stays open across a fork of DataLoader workers
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._clips = {}
        counts = [1 if n_frames is None else max(1, info["n_frames"] // n_frames) for info in self.infos]
        self._clip_of = np.repeat(np.arange(len(counts)), counts)

    def __len__(self):
        return len(self._clip_of)

    def __getstate__(self):
        return {**self.__dict__, "_clips": {}}

    def set_epoch(self, epoch):
        """Choose the random windows of this epoch, in this process and its workers."""
        self._epoch.fill_(int(epoch))

    def clip(self, index):
        """Arrays of one clip; kept in memory, some 4 MB a minute."""
        if index not in self._clips:
            parts = self.layout.split(self.store.array(self.split, "coeff", index))
            wav = soundfile.read(io.BytesIO(self.store.bytes(self.split, "audio", index)), dtype="float32")[0]
            clip = {name: np.ascontiguousarray(parts[name], np.float32) for name in ("exp", "angle", "trans")}
            clip["valid"] = schema.unpack_valid(self.store.bytes(self.split, "track", index))
            clip |= {"mfcc": mfcc_windows(wav), "cepstra": cepstra(wav)}
            n = len(clip["exp"])
            missing = max(0, n - len(clip["mfcc"]))
            clip["mfcc"] = np.pad(clip["mfcc"], ((0, missing), (0, 0), (0, 0)), mode="edge")[:n]
            rows = ROWS_PER_FRAME * n + WINDOW_ROWS - ROWS_PER_FRAME
            clip["cepstra"] = np.pad(clip["cepstra"], ((0, max(0, rows - len(clip["cepstra"]))), (0, 0)), mode="edge")[
                :rows
            ]
            self._clips[index] = clip
        return self._clips[index]

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        rng = np.random.default_rng((self.seed, int(self._epoch), int(index % len(self))))
        number = int(self._clip_of[index])
        clip = self.clip(number)
        n = self.n_frames or len(clip["exp"])
        start = int(rng.integers(max(1, len(clip["exp"]) - n + 1)))
        frames = np.arange(start, start + n)
        inside = frames.clip(0, len(clip["exp"]) - 1)
        out = {name: clip[name][inside] for name in ("exp", "angle", "trans", "mfcc")}
        out["valid"] = clip["valid"][inside] & (frames == inside)
        rows = np.arange(ROWS_PER_FRAME * start, ROWS_PER_FRAME * (start + n) + WINDOW_ROWS - ROWS_PER_FRAME)
        out["cepstra"] = clip["cepstra"][rows.clip(0, len(clip["cepstra"]) - 1)].reshape(-1, N_CEPSTRA)
        out["own_pose"] = self.behaviour_window(number, rng)
        others = np.flatnonzero(self.speaker_of == self.speaker_of[number])
        out["other_pose"] = self.behaviour_window(int(rng.choice(others)), rng)
        out = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in out.items()}
        return out | {"speaker": torch.tensor(int(self.speaker_of[number])), "clip": torch.tensor(number)}

    def behaviour_window(self, number, rng):
        """Some 300 frames of pose of a clip, (300, 6)."""
        clip = self.clip(number)
        pose = np.concatenate([clip["angle"], clip["trans"]], 1)
        return stretch(pose, BEHAVIOUR_FRAMES, int(rng.integers(max(1, len(pose) - BEHAVIOUR_FRAMES + 1))))


def stretch(pose, n, start=0):
    """n rows of (T, C) from `start`, played to and fro where they run out."""
    order = (start + np.arange(n)) % max(2 * len(pose) - 2, 1)
    return pose[np.where(order < len(pose), order, 2 * len(pose) - 2 - order)]


def open_split(data, split, seed):
    """Windows of the train split, whole clips of another; data: configs.DataConfig."""
    return PoseDataset(data.lmdb, split, data.window_frames if split == "train" else None, seed)
