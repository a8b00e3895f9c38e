"""Windows and whole clips of a mesh folder for training: motion, its sound, and samples of the same person's style.

A batch (T frames of a window, A rows of sound at 50 Hz, S frames of a style sample at 25 fps, K coefficients, F audio features):
    <feature>    (B, A, D)   rows from `context` rows before the window's first frame
    positions    (B, T)      where each frame lies on the axis of rows, in rows; any frame rate, exact
    motion       (B, T, K)   coefficients of the basis, or with form "vertices" displacements (B, T, 3 V) in the topology's unit
    valid        (B, T)      frames that exist
    style, style2            two samples of the same person, other clips where there are any: {"motion": (B, S, K), "valid":
                             (B, S), "<feature>": (B, S, D)}, their keys joined as "style_motion", ...
    template     (B, V, 3), rest_gap (B, P, 3) vectors across the opening at rest, in the unit; speaker (B,), clip (B,)
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from data_process.meshes import MeshError, MeshFolder
from deep_3drecon.track import FPS, resample
from deepspeech import FEATURE_HZ

STYLE_FRAMES = 250  # 10 s
STYLE_SHORTEST = 100  # 4 s


class MeshClips:
    """Clips of one split as arrays, kept in memory: features and coefficients, about 1 MB a minute of speech; vertices are read."""

    def __init__(self, path, split, form="basis"):
        self.data, self.form = MeshFolder(path), form
        self.clips = self.data.of(split)
        if not self.clips:
            raise MeshError(f"{path}: {split} holds no clip: prepare it with clips in {split}")
        self.speakers = self.data.subjects("train") or self.data.subjects(split)
        self.basis, self.names = self.data.basis
        self._kept, self._templates = {}, {}

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        if index not in self._kept:
            self._kept[index] = self._read(index)
        return self._kept[index]

    def __getstate__(self):
        """Without what is kept: a worker process reads its own."""
        return {**self.__dict__, "_kept": {}, "_templates": {}}

    def _read(self, index):
        facts = self.clips[index]
        features, coefficients = self.data.features(facts["name"]), self.data.coefficients(facts["name"])
        slow = resample(coefficients, facts["fps"], FPS).astype(np.float32)
        rows = np.arange(len(slow)) * (FEATURE_HZ / FPS)
        return facts | {
            "features": features, "coefficients": coefficients, "slow": slow,
            "slow_features": {name: at_rows(x, rows) for name, x in features.items()},
        }  # fmt: skip

    def template(self, subject):
        """(V, 3) float32."""
        if subject not in self._templates:
            self._templates[subject] = self.data.template(subject)
        return self._templates[subject]

    def motion(self, index, frames):
        """(T, K) coefficients, or (T, 3 V) displacements, of frames (T,)."""
        if self.form == "basis":
            return self[index]["coefficients"][frames]
        facts = self.clips[index]
        moved = self.data.vertices(facts["name"], frames) - self.template(facts["subject"])
        return moved.reshape(len(moved), -1).astype(np.float32)

    def style(self, subject, not_clip, n_frames, rng=None, skip=()):
        """(sample of a person {"motion" (n_frames, K), "valid", features}, clips used), of other clips where there are any.

        rng None: the person's clips in their order, for validation.
        """
        own = [k for k, clip in enumerate(self.clips) if clip["subject"] == subject]
        rest = [k for k in own if k != not_clip and k not in skip] or [k for k in own if k not in skip] or own
        order = rest if rng is None else rng.permutation(rest).tolist()
        wanted = n_frames if rng is None else int(rng.integers(min(STYLE_SHORTEST, n_frames), n_frames + 1))
        return self.sample(order, wanted, n_frames, rng)

    def sample(self, order, wanted, n_frames, rng=None):
        """`wanted` frames out of clips in a given order, padded to n_frames."""
        pieces, used, n = [], [], 0
        for k in order:
            length = len(self[k]["slow"])
            start = 0 if rng is None or length <= wanted - n else int(rng.integers(length - (wanted - n) + 1))
            pieces.append((k, slice(start, start + wanted - n)))
            used.append(k)
            n += min(length - start, wanted - n)
            if n >= wanted:
                break
        out = {"motion": np.concatenate([self[k]["slow"][cut] for k, cut in pieces])}
        for name in self[order[0]]["slow_features"]:
            out[name] = np.concatenate([self[k]["slow_features"][name][cut] for k, cut in pieces])
        valid = np.arange(n_frames) < len(out["motion"])
        out = {name: np.pad(x, ((0, n_frames - len(x)), (0, 0))) for name, x in out.items()}
        return out | {"valid": valid}, used


def at_rows(x, rows):
    """Rows (n,), whole or not, of features (A, C), by straight lines; the first and last hold beyond the ends."""
    place = np.clip(rows, 0, len(x) - 1)
    before = np.minimum(place.astype(int), max(len(x) - 2, 0))
    weight = (place - before)[:, None].astype(np.float32)
    return (1 - weight) * x[before] + weight * x[np.minimum(before + 1, len(x) - 1)]


class MeshWindows(Dataset):
    """Windows for training, or with n_frames None whole clips in order for validation.

    context: frames of 25 fps of sound on each side. The window of an index depends on (seed, epoch, index) alone.
    """

    def __init__(self, path, split, n_frames, context, seed=0, form="basis", style_frames=STYLE_FRAMES):
        self.reader = MeshClips(path, split, form)
        self.n_frames, self.seed, self.style_frames = n_frames, seed, style_frames
        self.context_rows = round(context * FEATURE_HZ / FPS)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        counts = [1 if n_frames is None else max(1, 4 * c["n_frames"] // n_frames) for c in self.reader.clips]
        self._clip_of = np.repeat(np.arange(len(counts)), counts)
        slowest = min(clip["fps"] for clip in self.reader.clips)
        self._rows = None if n_frames is None else int(np.ceil(n_frames * FEATURE_HZ / slowest)) + 2

    def __len__(self):
        return len(self._clip_of)

    def set_epoch(self, epoch):
        """Choose this epoch's windows, in this process and its workers."""
        self._epoch.fill_(int(epoch))

    @property
    def basis(self):
        """(K, V, 3)."""
        return self.reader.basis

    def about(self):
        """Facts for the model's constructor, JSON."""
        data, topology = self.reader.data, self.reader.data.topology
        regions = {name: np.asarray(topology.regions[name]).tolist() for name in topology.regions}
        return data.stats | {
            "topology": topology.name, "unit_mm": data.content["unit_mm"], "n_vertices": topology.n_vertices,
            "basis_size": len(self.basis), "names": list(self.reader.names), "subjects": self.reader.speakers,
            "fps": sorted({clip["fps"] for clip in self.reader.clips}), "regions": regions,
            "aperture": None if topology.aperture is None else topology.aperture.tolist(), "about": data.content["about"],
        }  # fmt: skip

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        clip = int(self._clip_of[index])
        facts = self.reader[clip]
        length, fps = facts["n_frames"], facts["fps"]
        rng = np.random.default_rng((self.seed, int(self._epoch), index)) if self.n_frames else None
        n = self.n_frames or length
        start = int(rng.integers(max(1, length - n + 1))) if rng else 0
        frames = np.arange(start, start + n)
        first_row = int(np.floor(start * FEATURE_HZ / fps))
        n_rows = self._rows or int(np.ceil(n * FEATURE_HZ / fps)) + 2
        rows = np.arange(first_row - self.context_rows, first_row + n_rows + self.context_rows)
        out = {name: x[rows.clip(0, len(x) - 1)] for name, x in facts["features"].items()}
        out["positions"] = (frames * FEATURE_HZ / fps - first_row + self.context_rows).astype(np.float32)
        out["motion"] = self.reader.motion(clip, frames.clip(0, length - 1))
        out["valid"] = frames < length
        style, used = self.reader.style(facts["subject"], clip, self.style_frames, rng)
        other, _ = self.reader.style(facts["subject"], clip, self.style_frames, rng, skip=used)
        for prefix, sample in (("style", style), ("style2", other)):
            out |= {f"{prefix}_{name}": x for name, x in sample.items()}
        out = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in out.items()}
        return out | self._person(facts["subject"]) | {"clip": torch.tensor(clip)}

    def _person(self, subject):
        template, aperture = self.reader.template(subject), self.reader.data.topology.aperture
        out = {"template": torch.from_numpy(template)}
        if aperture is not None:
            out["rest_gap"] = out["template"][aperture[:, 0]] - out["template"][aperture[:, 1]]
        speakers = self.reader.speakers
        # -1: nobody of the training set; such a person has no row in a table of identities
        return out | {"speaker": torch.tensor(speakers.index(subject) if subject in speakers else -1)}


def open_split(data, split, seed):
    """Training windows or whole validation clips in the basis; data: configs.DataConfig, whose `lmdb` names the mesh folder."""
    return MeshWindows(data.lmdb, split, data.window_frames if split == "train" else None, data.context_frames, seed)


def open_vertices(data, split, seed):
    """The same with every vertex, for the network of the paper."""
    n_frames = data.window_frames if split == "train" else None
    return MeshWindows(data.lmdb, split, n_frames, data.context_frames, seed, form="vertices")
