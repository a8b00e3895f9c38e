"""The records of one clip of a store, read and checked one by one, for `verify`."""

import io
import tempfile
import zipfile
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
import soundfile

from data_process import schema
from data_process.schema import StoreError
from data_process.video import VideoError, probe, read_frames
from deep_3drecon.track import FPS
from deepspeech import SAMPLE_RATE
from deepspeech.timing import ROWS_PER_FRAME, SAMPLES_PER_FRAME

COLUMNS = {"phonemes": 40, "mel": 40, "energy": 1}
SAMPLED = 3  # JPEGs of a clip, and frames of its video, that are decoded without --full
UNREADABLE = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, RuntimeError)
LEAVE_OUT = "leave the clip out (data_process.merge_lmdb --split into a new store), or build the store anew"
ADD_AGAIN = "run data_process.add_features with the same options and --replace"


@dataclass
class Report:
    """What `verify` found. faults, notes: [{"where", "record", "what", "remedy"}]; records: {name: [clips, bytes]}."""

    path: str
    faults: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    records: dict = field(default_factory=dict)
    clips: int = 0

    def fault(self, where, record, what, remedy):
        self.faults.append({"where": where, "record": record, "what": what, "remedy": remedy})

    def note(self, where, record, what, remedy=""):
        self.notes.append({"where": where, "record": record, "what": what, "remedy": remedy})

    def count(self, record, n_bytes):
        entry = self.records.setdefault(record, [0, 0])
        entry[0] += 1
        entry[1] += n_bytes


def check_clip(store, split, index, clip, report, full):
    """All records of one clip -> its FaceTrack, None if that cannot be read."""
    where, n_frames, track = f"{split} {index} {clip['name']}", clip["n_frames"], None
    data = store.records(split, index)
    for record in (*schema.RECORDS, *store.added):
        if record not in data and record not in _optional(store):
            report.fault(where, record, "is missing", ADD_AGAIN if record in store.added else LEAVE_OUT)
    for record, value in data.items():
        report.count(record, len(value))
        try:
            if record in CHECKS:
                CHECKS[record](value, n_frames, clip, full)
            elif record == "track":
                track = _track(value, n_frames, clip, store)
            else:
                _array(record, value, n_frames, store)
        except UNREADABLE as error:
            report.fault(where, record, str(error), ADD_AGAIN if record in store.added else LEAVE_OUT)
    coeff_is_sound = "coeff" in data and not any((f["where"], f["record"]) == (where, "coeff") for f in report.faults)
    if track is not None and coeff_is_sound and not np.array_equal(schema.unpack_array(data["coeff"]), track.coeff):
        report.fault(where, "coeff", "differs from that of its track", LEAVE_OUT)
    _jpegs(store, split, index, n_frames, where, report, full)
    return track


def _optional(store):
    """Records that a clip may lack: made-up speech comes without pictures, real clips without masks. JPEGs are counted apart."""
    return ("mask", "frames") if "clip" in store.meta["settings"] else ("video", "mask", "frames")


def _array(record, value, n_frames, store):
    """Shape, type and finiteness of a npy record."""
    array = schema.unpack_array(value)
    shape, dtype = _shape(record, n_frames, store)
    if array.shape != shape or array.dtype != dtype:
        raise StoreError(f"{array.shape} {array.dtype}, {shape} {dtype} is needed for {n_frames} frames")
    if not np.isfinite(array).all():
        raise StoreError(f"{np.count_nonzero(~np.isfinite(array))} of {array.size} numbers are not finite")


def _shape(record, n_frames, store):
    """((rows, ...), dtype) of a npy record."""
    if record in store.added:
        about = store.added[record]
        return (about["rows_per_frame"] * n_frames, about["dims"]), np.dtype(about["dtype"])
    rest = {"lm5": (5, 2), "lm68": (68, 2), "coeff": (sum(store.meta["layout"].values()),)}.get(record)
    shape = (n_frames, *rest) if rest else (ROWS_PER_FRAME * n_frames, COLUMNS[record])
    return shape, np.dtype(np.float32)


def _track(value, n_frames, clip, store):
    """A track that fits its clip and the store's face model."""
    track = schema.unpack_track(value)
    if (track.face_model, track.face_model_hash) != (store.meta["face_model"], store.meta["face_model_hash"]):
        raise StoreError(
            f"of face model {track.face_model} {track.face_model_hash}, the store has {store.meta['face_model']} "
            f"{store.meta['face_model_hash']}"
        )
    lengths = {name: len(getattr(track, name)) for name in ("coeff", "landmarks", "crop", "valid", "scores")}
    wrong = {name: length for name, length in lengths.items() if length != n_frames}
    if wrong or track.fps != FPS:
        raise StoreError(f"{wrong or ''} {track.fps:g} fps: {n_frames} frames at {FPS} fps are needed")
    for name in ("coeff", "landmarks", "crop", "scores"):
        if not np.isfinite(getattr(track, name)).all():
            raise StoreError(f"its {name} are not all finite")
    if not track.valid.any():
        raise StoreError("not one frame has a face")
    if "frame_size" in clip and list(track.frame_size) != list(clip["frame_size"]):
        raise StoreError(f"of frames of {track.frame_size}, meta says {clip['frame_size']}")
    return track


def _audio(value, n_frames, clip, full):
    about = soundfile.info(io.BytesIO(value))
    samples, _ = soundfile.read(io.BytesIO(value), dtype="int16")
    if (about.samplerate, about.channels, len(samples)) != (SAMPLE_RATE, 1, n_frames * SAMPLES_PER_FRAME):
        raise StoreError(
            f"{len(samples)} samples, {about.channels} channels at {about.samplerate} Hz: {n_frames * SAMPLES_PER_FRAME}, 1 "
            f"at {SAMPLE_RATE} are needed"
        )


def _video(value, n_frames, clip, full):
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(value)
        file.flush()
        try:
            about = probe(file.name)
            n_found = sum(1 for _ in read_frames(file.name, max_frames=None if full else SAMPLED))
        except VideoError as error:
            raise StoreError(str(error).removeprefix(f"{file.name}: ")) from error
    needed = n_frames if full else min(SAMPLED, n_frames)
    if about.n_frames != n_frames or n_found != needed or abs(about.fps - FPS) > 0.01:
        raise StoreError(
            f"{n_found} of {about.n_frames} frames at {about.fps:g} fps can be decoded: {n_frames} at {FPS} are needed"
        )
    if "frame_size" in clip and [about.width, about.height] != list(clip["frame_size"]):
        raise StoreError(f"{about.width}x{about.height} pixels, meta says {clip['frame_size']}")


def _mask(value, n_frames, clip, full):
    regions, names = schema.unpack_mask(value)
    if len(regions) != n_frames or regions.max(initial=0) >= len(names):
        raise StoreError(
            f"{len(regions)} frames of {len(names)} regions up to {regions.max(initial=0)}, {n_frames} are needed"
        )


# records that are no npy: (bytes, frames of the clip, its entry of `meta`, decode all?)
CHECKS = {"audio": _audio, "video": _video, "mask": _mask}


def _jpegs(store, split, index, n_frames, where, report, full):
    """The face crops of a clip: all or none, and those that are looked at can be decoded to one size."""
    jpegs = store.jpegs(split, index, n_frames)
    if not jpegs and not store.meta["settings"].get("clip", {}).get("frames"):
        return
    report.count("frames", sum(map(len, jpegs)))
    if len(jpegs) != n_frames:
        report.fault(where, "frames", f"{len(jpegs)} JPEGs, {n_frames} are needed", LEAVE_OUT)
        return
    sizes = set()
    for t in range(n_frames) if full else np.linspace(0, n_frames - 1, SAMPLED).astype(int):
        try:
            sizes.add(simplejpeg.decode_jpeg(jpegs[t]).shape)
        except UNREADABLE as error:
            report.fault(where, "frames", f"JPEG {t} cannot be decoded ({error})", LEAVE_OUT)
    if len(sizes) > 1:
        report.fault(where, "frames", f"JPEGs of {len(sizes)} sizes", LEAVE_OUT)
