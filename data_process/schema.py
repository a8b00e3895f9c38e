"""Names and bytes of the LMDB store, and the names of a batch: the one place both are written down.

A store is one LMDB folder with named databases `<split>_<record>`, laid out as the TED-HD store of style_avatar (MM
2021):

    env = lmdb.open("data/grid.lmdb", max_dbs=64)
    test_video = env.open_db(b"test_video")
    with env.begin() as txn:
        mp4 = txn.get(b"0", db=test_video)

Keys are ASCII decimal clip indices 0 .. n-1, shared by all databases of a split. Values are whole mp4 or wav files, or
npy or npz files; nothing is pickled. Beside them: `meta` (key `meta`, JSON) and `journal` (key = clip name, JSON: where
the clip went, or why it was left out).

A store may hold further audio features under names of the user's choice, such as `train_hubert_l9`: npy (r T, D) of
float16 or float32, r rows a frame. Its `meta` describes them: {"features": {"hubert_l9": {"rows_per_frame": r, "dims": D,
"dtype": ..., and what made them}}}. `data_process.add_features` adds them.
"""

import io
import json
import re

import numpy as np

from deep_3drecon.track import FaceTrack

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")

# record -> what the value is. T frames at 25 fps, A = 2T rows at 50 Hz, D numbers of a face vector.
RECORDS = {
    "video": "mp4, H.264, 25 fps (the clip's sound is in it as well)",
    "audio": "wav, 16 kHz mono PCM16, 640 samples a frame",
    "lm5": "npy (T, 5, 2) float32, pixels of the video: eyes, nose tip, mouth corners, viewer's left first",
    "lm68": "npy (T, 68, 2) float32, pixels of the video",
    "coeff": "npy (T, D) float32, face vector (id, exp, tex, angle, gamma, trans)",
    "track": "npz, deep_3drecon.track.FaceTrack",
    "phonemes": "npy (A, 40) float32, posteriors of 39 phones and blank",
    "mel": "npy (A, 40) float32, log-mel",
    "energy": "npy (A, 1) float32, RMS",
    "mask": "npz, regions (T, H, W) uint8 of the video's pixels: places in its names; made-up clips with video only",
    "frames": "JPEG of the face crop, one a frame, key `<clip>-<frame>` with six digits for the frame; optional",
}
FEATURES = ("phonemes", "mel", "energy")
META_DB, JOURNAL_DB, META_KEY = "meta", "journal", b"meta"
MAX_DBS = 256


# The style vector of a batch: these statistics of the whole clip, in this order.
STYLE_PARTS = ("std_exp", "std_exp_change", "std_pose_change", "std_pose", "mean_exp")

# key of a batch -> shape and meaning. T frames of the window, C frames of context on either side, A = 2 (T + 2C) rows.
BATCH = {
    "phonemes": "(B, A, 40) float32",
    "mel": "(B, A, 40) float32",
    "energy": "(B, A, 1) float32",
    "exp": "(B, T, E) float32, expression coefficients",
    "angle": "(B, T, 3) float32, Euler angle in radians",
    "trans": "(B, T, 3) float32, translation in dm",
    "id": "(B, I) float32, identity of the clip",
    "style": "(B, S) float32, raw statistics of the whole clip in the order of STYLE_PARTS",
    "valid": "(B, T) bool, the frame exists and its face was found",
    "speaker": "(B,) int64, index into the store's speakers",
    "clip": "(B,) int64, index of the clip in its split",
}


# beside these where a learnt style is trained: K other frames of the same clip, or of another clip of the same speaker
STYLE_WINDOW = {
    "style_exp": "(B, K, E) float32",
    "style_angle": "(B, K, 3) float32",
    "style_trans": "(B, K, 3) float32",
    "style_valid": "(B, K) bool",
}


class StoreError(ValueError):
    """A store that cannot be read, written or continued as asked."""


def database(split, record, added=()):
    """Name of a database as LMDB wants it: ("test", "video") -> b"test_video". added: names of further features."""
    if split not in SPLITS or not (record in RECORDS or record in added):
        raise StoreError(f"no database {split}_{record}: splits are {SPLITS}, records {(*RECORDS, *added)}")
    return f"{split}_{record}".encode()


def check_feature_name(name):
    """A name for a further feature, or a StoreError."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name in {*RECORDS, *BATCH}:
        raise StoreError(
            f"{name!r} cannot name a feature: lower-case letters, digits and _ are needed, beginning with a letter, and "
            "not the name of a record or of a key of a batch"
        )
    return name


def clip_key(index):
    """Key of a clip: 7 -> b"7"."""
    return str(int(index)).encode()


def frame_key(index, frame):
    """Key of one JPEG in `<split>_frames`: (7, 12) -> b"7-000012"."""
    return f"{int(index)}-{int(frame):06d}".encode()


def pack_array(array):
    """Array -> bytes of a npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpack_array(data):
    """Bytes of a npy file -> array. Pickled content is refused."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        raise StoreError(f"{len(data)} bytes came that are not a npy file ({error})") from error


def pack_track(track):
    """FaceTrack -> bytes of its npz file."""
    buffer = io.BytesIO()
    track.write(buffer)
    return buffer.getvalue()


def unpack_track(data):
    """Bytes of a track's npz file -> FaceTrack."""
    return FaceTrack.load(io.BytesIO(data))


def unpack_valid(data):
    """Bytes of a track's npz file -> its `valid` (T,) alone; the landmarks, which are most of it, stay packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as npz:
        return npz["valid"]


def pack_mask(regions, names):
    """Regions (T, H, W) uint8, each pixel a place in `names` -> bytes of a npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, regions=np.asarray(regions, np.uint8), names=np.array(names))
    return buffer.getvalue()


def unpack_mask(data):
    """Inverse of `pack_mask`: regions (T, H, W) uint8 and the tuple of their names."""
    with np.load(io.BytesIO(data), allow_pickle=False) as npz:
        return npz["regions"], tuple(str(name) for name in npz["names"])


def pack_json(value):
    """JSON with sorted keys, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def unpack_json(data):
    """Inverse of `pack_json`."""
    return json.loads(bytes(data))


def style_vector(statistics):
    """{part: (n,)} of `deep_3drecon.track.style_statistics` -> (S,) float32 in the order of STYLE_PARTS."""
    return np.concatenate([np.asarray(statistics[name], np.float32).ravel() for name in STYLE_PARTS])


def style_sizes(statistics):
    """{part: count} in the order of STYLE_PARTS."""
    return {name: int(np.size(statistics[name])) for name in STYLE_PARTS}
