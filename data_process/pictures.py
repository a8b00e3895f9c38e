"""Windows of consecutive frames with their coefficients, and a source frame for each: what renderers are trained on.

    set = open_split(data_config, "train", seed)            # data.lmdb: a person folder, or a folder of such
    python -m data_process.pictures --lmdb data/lmdb --output data/people      # person folders from the clips of a store

A person folder holds clip.mp4 (25 fps), track.npz (FaceTrack with light, see `deep_3drecon.photometric`), atlas.npz
(`atlas.PersonTexture`) and person.json with "learning": [first, end), the frames that may be learnt from, and optionally "cuts",
frames at which another shot begins. The last twelfth of the learning frames validates.

All frames of a person are cut to one square that holds the head throughout, so crops stand as still as the camera does. Batch keys:
`BATCH` below. A source is another learning frame of like pose, at least GAP frames away: what a new pose is rendered from.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from data_process.schema import StoreError
from data_process.video import read_frames
from deep_3drecon import camera
from deep_3drecon.atlas import PersonTexture
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import points68
from deep_3drecon.track import FaceTrack

# key -> shape and meaning; S crop size, T frames of the window
BATCH = {
    "pictures": "(B, T, 3, S, S) uint8, RGB",
    "id, exp, angle, trans, gamma": "(B, T, n) float32, coefficients of each frame; gamma is the light",
    "affine": "(B, T, 2, 3) float32, canonical pixels -> pixels of the crop",
    "points": "(B, T, 68, 2) float32, landmarks in pixels of the crop",
    "source": "(B, 3, S, S) uint8, another frame in the same crop",
    "source_id, source_exp, source_angle, source_trans, source_affine": "the same of the source",
    "source_frame": "(B,) int64, number of the source among all frames of the set, for caches",
    "person": "(B,) int64, place in the set's `people`",
    "clip": "(B,) int64, the same: for messages of the training loop",
}
STATE = ("id", "exp", "angle", "trans")
GAP = 12  # frames between a window and its source
NEAR = 0.25  # share of the learning frames, nearest in pose, that sources are drawn from
VAL_SHARE = 1 / 12
VAL_STEP = 4  # frames between validation windows
STRIDE = 1


@dataclass
class Footage:
    """One person's frames in memory.

    pictures (T, S, S, 3) uint8 crops; square (left, top, side) that was cut, source pixels; state: {"id", "exp", "angle", "trans", "gamma",
    "affine", "points"} of (T, ...) float32 arrays; shot (T,) number of the shot; learning (first, end); texture; model.
    """

    name: str
    pictures: np.ndarray
    square: tuple
    state: dict
    shot: np.ndarray
    learning: tuple
    texture: PersonTexture
    model: object
    valid: np.ndarray
    heads: float

    def __len__(self):
        return len(self.pictures)

    @classmethod
    def load(cls, folder, size, heads, frames=None):
        """A person folder; frames: function that gives the clip's frames, by default those of clip.mp4."""
        folder = Path(folder)
        try:
            about = json.loads((folder / "person.json").read_text())
            track, texture = FaceTrack.load(folder / "track.npz"), PersonTexture.load(folder / "atlas.npz")
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder}: no person folder ({error}): make one with scripts/personalize.sh") from error
        model = load_face_model(track.face_model)
        if model.hash != track.face_model_hash:
            raise StoreError(f"{folder}: was made with another face model: make it again with scripts/personalize.sh")
        first, end = (int(x) for x in about["learning"])
        square = head_square(track.select(slice(first, end)), model, heads)
        cut = np.zeros((len(track), size, size, 3), np.uint8)
        read = frames() if frames else read_frames(folder / "clip.mp4", fps=track.fps)
        for t, frame in enumerate(read):
            if t < len(track):
                cut[t] = cut_square(frame, square, size)
        shot = np.searchsorted(np.asarray(about.get("cuts", []), int), np.arange(len(track)), side="right")
        return cls(
            folder.name,
            cut,
            square,
            crop_state(track, square, size),
            shot,
            (first, end),
            texture,
            model,
            track.valid,
            heads,
        )


def head_square(track, model, heads):
    """(left, top, side) in source pixels: the square about the head of a whole track, `heads` of its heights wide, or wider where
    the head moves far."""
    skin = np.concatenate([model.regions[name] for name in ("face", "ears", "scalp")])
    picked = np.flatnonzero(track.valid)[:: max(1, int(track.valid.sum()) // 60)]
    lows, highs = [], []
    for t in picked:
        parts = {k: torch.from_numpy(np.ascontiguousarray(v[t])) for k, v in track.parts().items()}
        posed = camera.pose(model.vertices(parts["id"], parts["exp"])[skin], parts["angle"], parts["trans"])
        back = camera.invert_affine(torch.from_numpy(track.crop[t]).double()).float()
        flat = camera.apply_affine(camera.project(posed), back).numpy()
        lows.append(flat.min(0))
        highs.append(flat.max(0))
    low, high = np.quantile(lows, 0.05, axis=0), np.quantile(highs, 0.95, axis=0)
    height = float(np.median(np.array(highs)[:, 1] - np.array(lows)[:, 1]))
    side = max(heads * height, 1.15 * float((high - low).max()))
    # a little lower than the head's middle: below it are neck and collar, above it nothing that moves
    centre = (low + high) / 2 + np.array([0, 0.05 * height])
    return (*(centre - side / 2).tolist(), side)


def square_affine(square, size):
    """(2, 3) float64: source pixels -> pixels of the square at `size`; left and top are outer edges as in `unwrap.box_clip`."""
    left, top, side = square
    scale = size / side
    return np.array([[scale, 0, -left * scale - 0.5], [0, scale, -top * scale - 0.5]])


def cut_square(frame, square, size):
    """The square of a frame (H, W, 3) uint8 at `size` pixels; what lies outside of the frame is repeated."""
    affine, scale = square_affine(square, size), size / square[2]
    if scale >= 1:
        return cv2.warpAffine(frame, affine, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    # areas, or fine detail would flicker: cut at a whole multiple first
    times = int(np.ceil(1 / scale))
    big = cv2.warpAffine(
        frame,
        square_affine(square, size * times),
        (size * times, size * times),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(big, (size, size), interpolation=cv2.INTER_AREA)


def crop_state(track, square, size):
    """{name: (T, ...) float32} of a FaceTrack for a square at `size`; names of `Footage.state`."""
    to_crop = np.concatenate([square_affine(square, size), [[0, 0, 1]]])
    back = camera.invert_affine(torch.from_numpy(track.crop.astype(np.float64))).numpy()
    whole = np.concatenate([back, np.tile([[[0, 0, 1]]], (len(back), 1, 1))], 1)
    points = points68(track.landmarks).astype(np.float64) @ to_crop[:2, :2].T + to_crop[:2, 2]
    parts = track.parts()
    arrays = {name: parts[name] for name in (*STATE, "gamma")} | {"affine": (to_crop @ whole)[:, :2], "points": points}
    return {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}


def pose_distance(angle, trans, other_angle, other_trans):
    """How unlike poses (..., 3) are: 1 for 0.1 rad or 1 % of the distance to the camera."""
    turn = np.linalg.norm((angle - other_angle) / 0.1, axis=-1)
    return turn + np.linalg.norm((trans - other_trans) / (0.01 * camera.CAMERA_Z_DM), axis=-1)


class PictureWindows(Dataset):
    """Windows of `n_frames` of some people. Items: `BATCH` without its first axis.

    split "train": a random source for each window, other ones each epoch; "val": windows of the last part of the learning frames with the
    nearest source in pose; both take their sources from the train frames alone. Random choices depend on (seed, epoch, index) only.
    """

    def __init__(self, people, split="train", n_frames=2, seed=0):
        self.people, self.split, self.n_frames, self.seed = people, split, n_frames, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.offsets = np.cumsum([0] + [len(p) for p in people])
        self.learnt, self.items = [], []
        for number, person in enumerate(people):
            first, end = person.learning
            middle = end - max(n_frames, int((end - first) * VAL_SHARE))
            self.learnt.append(first + np.flatnonzero(person.valid[first:middle]))
            low, high, step = (first, middle, STRIDE) if split == "train" else (middle, end, VAL_STEP)
            self.items += [(number, t) for t in range(low, high - n_frames + 1, step) if self._whole(person, t)]
        if not self.items:
            raise StoreError(
                f"no window of {n_frames} frames in the {split} part of {len(people)} people: longer clips"
            )

    def _whole(self, person, start):
        part = slice(start, start + self.n_frames)
        return person.valid[part].all() and person.shot[part].min() == person.shot[part].max()

    def about(self):
        """Facts for the model's constructor."""
        model, size = self.people[0].model, self.people[0].pictures.shape[1]
        return {
            "face_model": model.name,
            "face_model_hash": model.hash,
            "size": size,
            "heads": self.people[0].heads,
            "n_people": len(self.people),
        }

    def __len__(self):
        return len(self.items)

    def set_epoch(self, epoch):
        """Choose the random sources of this epoch, in this process and its workers."""
        self._epoch.fill_(int(epoch))

    def source_of(self, index):
        """Frame that the window `index` is rendered from."""
        number, start = self.items[index]
        person, learnt = self.people[number], self.learnt[number]
        state, middle = person.state, start + self.n_frames // 2
        away = learnt[np.abs(learnt - middle) >= GAP + self.n_frames]
        away = away if len(away) else learnt
        far = pose_distance(state["angle"][away], state["trans"][away], state["angle"][middle], state["trans"][middle])
        if self.split != "train":
            return int(away[np.argmin(far)])
        rng = np.random.default_rng((self.seed, int(self._epoch), int(index)))
        near = away[np.argsort(far, kind="stable")[: max(8, int(NEAR * len(away)))]]
        return int(rng.choice(near))

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        number, start = self.items[index]
        person, source = self.people[number], self.source_of(index)
        return window_item(person, range(start, start + self.n_frames), source) | {
            "source_frame": torch.tensor(int(self.offsets[number]) + source),
            "person": torch.tensor(number),
            "clip": torch.tensor(number),
        }


def window_item(person, frames, source):
    """Some frames (ids) of a `Footage` with a source (id) as tensors."""
    frames = np.asarray(frames)
    item = {name: torch.from_numpy(value[frames]) for name, value in person.state.items()}
    item["pictures"] = torch.from_numpy(person.pictures[frames]).permute(0, 3, 1, 2)
    item["source"] = torch.from_numpy(person.pictures[source]).permute(2, 0, 1)
    return item | {f"source_{name}": torch.from_numpy(person.state[name][source]) for name in (*STATE, "affine")}


def people_folders(path):
    """The person folders at a path: itself, or those in it by name."""
    path = Path(path)
    if (path / "person.json").is_file():
        return [path]
    found = sorted(p.parent for p in path.glob("*/person.json"))
    if not found:
        raise StoreError(
            f"{path}: no person folder here: make one with scripts/personalize.sh or data_process.pictures"
        )
    return found


_LOADED = {}


def open_split(data, split, seed):
    """The set for the training loop: `data.lmdb` names a person folder or a folder of such."""
    folders = people_folders(data.lmdb)
    key = (*map(str, folders), data.picture_size, data.crop_heads)
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = [Footage.load(f, data.picture_size, data.crop_heads) for f in folders]
    return PictureWindows(_LOADED[key], split, data.window_frames, seed)
