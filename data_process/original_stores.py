"""The stores of two published systems, read as they are.

    store = TedHdStore("/data/ted_hd.lmdb")             # style_avatar: named databases, pickled arrays
    store = PirenderStore("/data/mead.lmdb")            # PIRenderer, Style2Talker: JPEGs under `<clip>-%07d`
    store.clips("train"), store.array("train", "coeff", 0), store.track("train", 0)

Both answer as `store.Store` does, as far as they hold what is asked for, and write nothing. Pickles go through `safe_pickle`. To
make clips of them: `originals`.
"""

import tempfile
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from data_process import schema
from data_process.coeff_track import check_lengths, from_vectors
from data_process.folder_layouts import LAYOUTS, normal, parse_path, patterns_of
from data_process.schema import StoreError
from data_process.store import close, environment
from data_process.video import probe
from deep_3drecon import safe_pickle
from deep_3drecon.align import align5

FPS = 25  # of both systems
# record of a TED-HD store -> "file" for whole files, "array" for pickled arrays
TED_HD_RECORDS = {
    "video": "file", "audio": "file", "align": "file", "uv": "file", "bg": "file", "texture": "file", "mouth": "file",
    "pred_data": "file", "lm5": "array", "lm68": "array", "coeff": "array", "coeff_norm": "array", "deepspeech": "array",
    "energy": "array",
}  # fmt: skip
WHOLE = "all"  # the one split of a store that has none
WHOLE_SHARE = 0.95  # of the pages; the last ones may never have been written, if what was on them was removed at once


class _Original:
    """What the two stores share: an LMDB that is opened at the first read, in each process anew."""

    def __init__(self, path):
        self.path = str(path)

    def _environment(self):
        """`store.environment`, of a file that is whole: reading what is missing of a mapped file ends the process."""
        env, handles = environment(self.path)
        path = Path(self.path)
        size = (path / "data.mdb" if path.is_dir() else path).stat().st_size
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if size < WHOLE_SHARE * needed:
            raise StoreError(
                f"{self.path}: cut off, {size:,} of {needed:,} bytes are there: copy it again; parts such as ted_hd.lmdb.aa, .ab have "
                "to be joined first: cat ted_hd.lmdb.* > ted_hd.lmdb"
            )
        return env, handles

    def _get(self, key, name=None):
        """Value of a key of the main database or of a named one, None if there is none."""
        env, handles = self._environment()
        if name is not None and name not in handles:
            handles[name] = env.open_db(name.encode(), create=False)
        with env.begin(db=handles[name] if name is not None else None) as txn:
            return txn.get(key)

    def _keys(self, name=None):
        env, _ = self._environment()
        with env.begin(db=None if name is None else env.open_db(name.encode(), create=False)) as txn:
            return [bytes(key) for key in txn.cursor().iternext(values=False)]

    def close(self):
        """Let go of the LMDB environment of this path in this process."""
        close(self.path)

    def clips(self, split):
        """What `_clips` holds of a split, in order of the indices."""
        if split not in self.splits:
            raise StoreError(f"{self.path}: no split {split!r}, there are {', '.join(self.splits)}")
        return self._clips[split]

    def _clip(self, split, index):
        clips = self.clips(split)
        if not 0 <= index < len(clips):
            raise StoreError(f"{self.path}: clip {index} of {split} asked for, there are {len(clips)}")
        return clips[index]

    def _lacks(self, what):
        return StoreError(f"{self.path}: holds no {what}")


class TedHdStore(_Original):
    """The store of style_avatar: `<split>_<record>` databases, keys "0", "1", ...; values are files or pickled arrays.

    Databases without a split's name (LRW, GRID, TCD-TIMIT, CREMA-D of the same authors) make one split named "all". No clip has a
    name or a speaker; a clip is called `<split>_<index>` and counts as a speaker of its own.
    """

    @cached_property
    def databases(self):
        """{(split, record): name of the database}."""
        found = {}
        for name in (key.decode("latin1") for key in self._keys()):
            split, _, record = name.partition("_")
            if split in schema.SPLITS and record in TED_HD_RECORDS:
                found[split, record] = name
            elif name in TED_HD_RECORDS:
                found[WHOLE, name] = name
        if not found:
            raise StoreError(f"{self.path}: has no database such as train_video: not a store of style_avatar")
        return found

    @cached_property
    def splits(self):
        """Names of its splits."""
        return tuple(s for s in (*schema.SPLITS, WHOLE) if any(s == split for split, _ in self.databases))

    @cached_property
    def meta(self):
        """What `store.Store.meta` says, as far as it is known."""
        return {
            "rates": {"fps": FPS, "audio_hz": 16000, "feature_hz": 50},
            "splits": {s: self.clips(s) for s in self.splits},
        }

    @cached_property
    def _clips(self):
        """{split: [{name, speaker, index}]}."""
        out = {}
        for split in self.splits:
            record = next(r for r in ("video", "coeff", *TED_HD_RECORDS) if (split, r) in self.databases)
            keys = sorted(int(k) for k in self._keys(self.databases[split, record]) if k.isdigit())
            if keys != list(range(len(keys))):
                raise StoreError(
                    f"{self.path}: the keys of {self.databases[split, record]} have gaps: the store is damaged"
                )
            out[split] = [{"name": f"{split}_{i:05d}", "speaker": f"{split}_{i:05d}", "index": i} for i in keys]
        return out

    def bytes(self, split, record, index):
        """Value of a record as it is stored."""
        self._clip(split, index)
        name = self.databases.get((split, record))
        value = None if name is None else self._get(str(index).encode(), name)
        if value is None:
            raise self._lacks(f"{record} of clip {index} of {split}")
        return value

    def records(self, split, index):
        """{record: bytes} of all that there is of a clip."""
        names = [record for own, record in self.databases if own == split]
        return {
            r: data for r in names if (data := self._get(str(index).encode(), self.databases[split, r])) is not None
        }

    def array(self, split, record, index):
        """A pickled record as float32 array: lm5, lm68 (T, n, 2), coeff, coeff_norm (T, 257), deepspeech (A, 29), energy (A, 1)."""
        value = safe_pickle.loads(self.bytes(split, record, index))
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
            raise StoreError(
                f"{self.path}: {record} {index} of {split} is a {type(value).__name__}, no array of numbers"
            )
        if record == "energy" and value.ndim == 2 and value.shape[0] == 1:
            value = value.T  # stored as (1, A)
        return value.astype(np.float32)

    def coefficients(self, split, index):
        """CoeffTrack of a clip; its crops, where the store has landmarks, have one scale for the clip, as its authors' do."""
        track = from_vectors(self.array(split, "coeff", index), "bfm", "style_avatar", FPS)
        held = {own for s, own in self.databases if s == split}
        if {"lm5", "lm68"} & held:
            track.landmarks68 = self.array(split, "lm68", index) if "lm68" in held else None
            track.landmarks5 = self.array(split, "lm5", index) if "lm5" in held else None
        if track.landmarks5 is not None and "video" in held:
            width, height = self._frame_size(split, index)
            scale, t = align5(track.landmarks5, height)
            scale = np.full(len(scale), scale.mean())
            track.transform = np.column_stack([np.full(len(t), width), np.full(len(t), height), scale, t])
        return check_lengths(track, f"{self.path}: {split} {index}")

    def track(self, split, index):
        """The clip as a FaceTrack of the Basel model."""
        return self.coefficients(split, index).face_track()

    def jpegs(self, split, index, n_frames):
        """There are none."""
        return []

    def _frame_size(self, split, index):
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(self.bytes(split, "video", index))
            file.flush()
            info = probe(file.name)
        return info.width, info.height


class PirenderStore(_Original):
    """The store of PIRenderer and Style2Talker: JPEGs `<clip>-%07d`, and `<clip>-{length,keypoint,coeff_3dmm}`.

    It knows no splits: all clips are in "all" unless `split_of` {clip name: split} is given. It holds no sound.
    """

    def __init__(self, path, split_of=None):
        super().__init__(path)
        self.split_of = split_of

    @cached_property
    def lengths(self):
        """{clip name: number of frames}, in order of the names."""
        found = {}
        for key in self._keys():
            if key.endswith(b"-length"):
                found[key.decode()[: -len("-length")]] = int(self._get(key))
        if not found:
            raise StoreError(
                f"{self.path}: has no key such as <clip>-length: not a store of PIRenderer or Style2Talker"
            )
        return dict(sorted(found.items()))

    @cached_property
    def splits(self):
        """Names of its splits."""
        if self.split_of is None:
            return (WHOLE,)
        return tuple(s for s in schema.SPLITS if s in self.split_of.values())

    @cached_property
    def meta(self):
        """What `store.Store.meta` says, as far as it is known."""
        return {"rates": {"fps": FPS}, "splits": {s: self.clips(s) for s in self.splits}}

    @cached_property
    def _clips(self):
        """{split: [{name, speaker, n_frames}]} in order of the names; speakers as far as names tell them."""
        out = {split: [] for split in self.splits}
        for name, n_frames in self.lengths.items():
            split = WHOLE if self.split_of is None else self.split_of.get(name)
            if split is not None:
                out[split].append({"name": name, "speaker": speaker_of(name), "n_frames": n_frames})
        return out

    def bytes(self, split, record, index):
        """Value of `keypoint` or `coeff_3dmm` as it is stored."""
        name = self._clip(split, index)["name"]
        value = self._get(f"{name}-{record}".encode())
        if value is None:
            raise self._lacks(f"{name}-{record}")
        return value

    def array(self, split, record, index):
        """lm68 (T, 68, 2), pixels, y down, or coeff_3dmm (T, 260), as float32."""
        clip = self._clip(split, index)
        stored = {"lm68": ("keypoint", (68, 2)), "coeff_3dmm": ("coeff_3dmm", (260,))}
        if record not in stored:
            raise self._lacks(f"{record}; its records are {', '.join(stored)}")
        key, shape = stored[record]
        data, count = self.bytes(split, key, index), clip["n_frames"] * int(np.prod(shape))
        kind = {4: np.float32, 8: np.float64}.get(len(data) // count if len(data) % count == 0 else 0)
        if kind is None:
            raise StoreError(
                f"{self.path}: {clip['name']}-{key} of {len(data)} bytes is no ({clip['n_frames']}, {shape}) of floats"
            )
        return np.frombuffer(data, kind).reshape(-1, *shape).astype(np.float32)

    def coefficients(self, split, index):
        """CoeffTrack of a clip, its transform in the pixels of the stored frames."""
        height, width = self.frame(split, index, 0).shape[:2]
        track = from_vectors(self.array(split, "coeff_3dmm", index), "pirender_store", "pirender", FPS, (width, height))
        if self._get(f"{self._clip(split, index)['name']}-keypoint".encode()) is not None:
            track.landmarks68 = self.array(split, "lm68", index)
        return check_lengths(track, f"{self.path}: {self._clip(split, index)['name']}")

    def track(self, split, index):
        """The clip as a FaceTrack of the Basel model."""
        return self.coefficients(split, index).face_track()

    def jpegs(self, split, index, n_frames=None):
        """JPEG bytes of the frames in order."""
        clip = self._clip(split, index)
        n_frames = clip["n_frames"] if n_frames is None else min(n_frames, clip["n_frames"])
        found = [self._get(f"{clip['name']}-{t:07d}".encode()) for t in range(n_frames)]
        if None in found:
            raise self._lacks(f"frame {found.index(None)} of {clip['name']}, which should have {n_frames}")
        return found

    def frame(self, split, index, frame):
        """One frame, (H, W, 3) uint8 RGB."""
        name = self._clip(split, index)["name"]
        data = self._get(f"{name}-{frame:07d}".encode())
        if data is None:
            raise self._lacks(f"frame {frame} of {name}")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise StoreError(f"{self.path}: {name}-{frame:07d} is no picture")
        return image


def speaker_of(name):
    """Speaker of a clip by its name: as MEAD, HDTF or VoxCeleb name theirs, else the name without the number of its piece."""
    for layout in LAYOUTS:
        found = parse_path(name, patterns_of(layout))
        if found:
            return found["speaker"]
    text = normal(name)
    return text.rpartition("/")[0] if text.rpartition("/")[2].isdigit() and "/" in text else text
