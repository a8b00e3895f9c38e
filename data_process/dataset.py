"""Batches from a store: windows for training, whole clips for validation. Keys and shapes: `schema.BATCH`.

Motion frame t (25 fps) and feature rows 2t, 2t + 1 (50 Hz) belong together by time. A window of T frames starting at a,
with C frames of context, holds rows 2 (a - C) to 2 (a + T + C); beyond the clip its first or last row and frame repeat,
and `valid` is False for frames that do not exist.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from data_process import schema
from data_process.schema import StoreError
from data_process.store import Store
from deep_3drecon.coeffs import Layout
from deep_3drecon.track import FPS, style_statistics
from deepspeech.timing import ROWS_PER_FRAME

CACHE_MB = 1024


class ClipReader:
    """Clips of one split as dicts of arrays, the last ones used kept in memory.

    A clip is {"phonemes", "mel", "energy": (2T, C), "exp": (T, E), "angle": (T, 3), "trans": (T, 3), "id": (I,),
    "style": (S,), "valid": (T,)}; one minute takes about 1.6 MB. Each process keeps its own.

    features: further audio features of the store by name, (r T, D) each with its r rows a frame and as it is stored.
    """

    def __init__(self, path, split, cache_mb=CACHE_MB, features=()):
        self.store, self.split = Store(path), split
        self.features = {name: _rows_per_frame(self.store, name) for name in (*schema.FEATURES, *features)}
        self.clips = self.store.clips(split)
        if not self.clips:
            raise StoreError(f"{path}: {split} holds no clip: build the store with clips in {split}")
        self.layout = Layout(**self.store.meta["layout"])
        self.speakers = self.store.meta["speakers"]
        self.store.close()  # nothing stays open across a fork of DataLoader workers
        self._cache, self._bytes, self._limit = OrderedDict(), 0, cache_mb * 1e6

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        clip = self._read(index)
        self._cache[index] = clip
        self._bytes += _n_bytes(clip)
        while self._bytes > self._limit and len(self._cache) > 1:
            self._bytes -= _n_bytes(self._cache.popitem(last=False)[1])
        return clip

    def __getstate__(self):
        """Without the cache: a worker process fills its own."""
        return {**self.__dict__, "_cache": OrderedDict(), "_bytes": 0}

    def _read(self, index):
        clip = {name: self.store.array(self.split, name, index) for name in self.features}
        parts = self.layout.split(self.store.array(self.split, "coeff", index))
        clip |= {name: np.ascontiguousarray(parts[name]) for name in ("exp", "angle", "trans")}
        clip["id"] = parts["id"][0].copy()
        clip["valid"] = schema.unpack_valid(self.store.bytes(self.split, "track", index))
        clip["style"] = schema.style_vector(style_statistics(clip["exp"], clip["angle"], clip["trans"], FPS))
        n_frames = len(clip["exp"])
        for name, per_frame in self.features.items():
            if len(clip[name]) != per_frame * n_frames:
                raise StoreError(
                    f"{self.store.path}: clip {index} of {self.split} has {n_frames} frames and {len(clip[name])} rows "
                    f"of {name}, {per_frame * n_frames} are needed: build the store anew"
                )
        return clip


def _rows_per_frame(store, name):
    if name not in store.features:
        raise StoreError(
            f"{store.path}: holds no feature {name!r}, only {', '.join(store.features)}: add it with "
            "python -m data_process.add_features"
        )
    return store.features[name]


def cut_window(clip, start, n_frames, context, features=None):
    """Part of a clip of `ClipReader` -> dict of arrays without batch axis.

    start: first frame, may lie outside the clip. n_frames: T. context: frames of sound on each side.
    features: {name: rows a frame}; the three of every store if left out.
    """
    length = len(clip["exp"])
    frames = np.arange(start, start + n_frames)
    inside = frames.clip(0, length - 1)
    window = {}
    features = dict.fromkeys(schema.FEATURES, ROWS_PER_FRAME) if features is None else features
    for name, per_frame in features.items():
        rows = np.arange(per_frame * (start - context), per_frame * (start + n_frames + context))
        window[name] = clip[name][rows.clip(0, per_frame * length - 1)].astype(np.float32, copy=False)
    window |= {name: clip[name][inside] for name in ("exp", "angle", "trans")}
    window["valid"] = clip["valid"][inside] & (frames == inside)
    window |= {"id": clip["id"], "style": clip["style"]}
    return window


class WindowDataset(Dataset):
    """Windows of one split for training; item -> dict of tensors, to be collated by the default DataLoader.

    Every clip of T frames gives ceil(T / stride) windows an epoch, so that clips weigh by their length. A window starts
    at a random frame of its stride, which depends on (seed, epoch, index) only: not on workers, order or what was read
    before. Call `set_epoch` at the start of an epoch. Clips shorter than a window are padded and masked by `valid`.
    features: further audio features of the store by name; they join the batch under their names.
    style_frames: so many frames of the same person beside each window, as schema.STYLE_WINDOW; 0 for none.
    """

    def __init__(
        self,
        path,
        split="train",
        n_frames=32,
        context=4,
        stride=None,
        seed=0,
        cache_mb=CACHE_MB,
        features=(),
        style_frames=0,
    ):
        if n_frames < 1 or context < 0 or (stride is not None and stride < 1):
            raise StoreError(f"n_frames {n_frames}, context {context}, stride {stride}: needed at least 1, 0, 1")
        self.reader = ClipReader(path, split, cache_mb, features)
        self.n_frames, self.context, self.seed, self.style_frames = n_frames, context, seed, style_frames
        self.stride = stride or max(1, n_frames // 4)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that outlive an epoch
        counts = [max(1, -(-clip["n_frames"] // self.stride)) for clip in self.reader.clips]
        self._clip_of = np.repeat(np.arange(len(counts)), counts)
        self._slot_of = np.concatenate([np.arange(n) for n in counts])
        self._speaker_of = [self.reader.speakers.index(clip["speaker"]) for clip in self.reader.clips]

    def __len__(self):
        return len(self._clip_of)

    def set_epoch(self, epoch):
        """Choose the random starts of this epoch, in this process and its workers."""
        self._epoch.fill_(int(epoch))

    def start(self, index):
        """(clip, first frame) of a window in the present epoch."""
        clip = int(self._clip_of[index])
        length = self.reader.clips[clip]["n_frames"]
        jitter = np.random.default_rng((self.seed, int(self._epoch), int(index))).integers(self.stride)
        return clip, int(min(self._slot_of[index] * self.stride + jitter, max(0, length - self.n_frames)))

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        clip, start = self.start(index % len(self))
        window = cut_window(self.reader[clip], start, self.n_frames, self.context, self.reader.features)
        if self.style_frames:
            window |= self._style_window(clip, start, index)
        return _tensors(window, self._speaker_of[clip], clip)

    def _style_window(self, clip, start, index):
        """Frames of the same clip beside the window or, where there are too few, of another clip of the same speaker."""
        rng = np.random.default_rng((self.seed, int(self._epoch), int(index), 1))
        length, wanted = self.reader.clips[clip]["n_frames"], self.style_frames
        free = [(0, start), (start + self.n_frames, length)]
        free = [(low, high) for low, high in free if high - low >= wanted]
        if not free:
            others = [k for k, who in enumerate(self._speaker_of) if who == self._speaker_of[clip] and k != clip]
            clip = int(rng.choice(others)) if others else clip
            free = [(0, max(wanted, self.reader.clips[clip]["n_frames"]))]
        low, high = free[rng.integers(len(free))]
        cut = cut_window(self.reader[clip], int(rng.integers(low, high - wanted + 1)), wanted, 0, {})
        return {f"style_{name}": cut[name] for name in ("exp", "angle", "trans", "valid")}


class ClipDataset(Dataset):
    """Whole clips of one split in order, for validation and test: the same keys with T = the clip's length, and `name`.

    Lengths differ, so use batches of one (DataLoader(batch_size=None) or plain indexing).
    """

    def __init__(self, path, split, context=4, cache_mb=CACHE_MB, features=()):
        self.reader, self.context = ClipReader(path, split, cache_mb, features), context

    def __len__(self):
        return len(self.reader)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        clip, about = self.reader[index], self.reader.clips[index]
        speaker = self.reader.speakers.index(about["speaker"])
        window = cut_window(clip, 0, len(clip["exp"]), self.context, self.reader.features)
        return _tensors(window, speaker, index) | {"name": about["name"]}


def open_split(data, split, seed):
    """Windows of the train split, whole clips of another; data: configs.DataConfig."""
    if split == "train":
        return WindowDataset(
            data.lmdb,
            split,
            data.window_frames,
            data.context_frames,
            seed=seed,
            features=data.features,
            style_frames=data.style_frames,
        )
    return ClipDataset(data.lmdb, split, data.context_frames, features=data.features)


def _tensors(window, speaker, clip):
    out = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in window.items()}
    return out | {"speaker": torch.tensor(speaker), "clip": torch.tensor(clip)}


def _n_bytes(clip):
    return sum(value.nbytes for value in clip.values())
