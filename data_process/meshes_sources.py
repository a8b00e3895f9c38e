"""Mesh clips of the open head: from the face tracks of a store, and from ARKit curves."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from data_process.meshes import MeshClip, MeshError, MeshWriter
from data_process.store import Store
from deep_3drecon.face_model import load_face_model
from deep_3drecon.topology import load_topology
from deep_3drecon.track import FPS
from deepspeech.audio_io import load_audio
from deepspeech.timing import ROWS_PER_FRAME, SAMPLES_PER_FRAME

CURVES_FPS = 60.0  # of Live Link Face, where a file does not say


def open_basis(face):
    """Expressions of the open head as a mesh basis: ((52, V, 3), names). Eyeballs, which turn and do not slide, stay still."""
    return face.exp_basis.movedim(-1, 0).numpy(), tuple(face.expression_names)


def open_writer(output):
    """MeshWriter of open-head clips."""
    face = load_face_model("open")
    basis, names = open_basis(face)
    return face, MeshWriter(output, load_topology("open"), basis, names)


def prepare_store(path, output, unseen=(), cut_seconds=0.0, seen_to="test_seen", progress=True):
    """Every clip of an LMDB store whose tracks are of the open head -> MeshFolder.

    unseen: speakers, or one number of them (the last by name), whose clips all go to test. The clips of others keep train and
    val; those that the store tests on go to `seen_to`, test_seen or train. cut_seconds: longer clips are
    cut into pieces of about that length, 0 leaves them whole. Several stores may be prepared into one folder.
    """
    store = Store(path)
    if store.meta["face_model"] != "open":
        raise MeshError(
            f"{path}: tracks of {store.meta['face_model']}, the open head is needed: build the store with it"
        )
    face, writer = open_writer(output)
    speakers, unseen = store.meta["speakers"], list(unseen)
    if len(unseen) == 1 and unseen[0].isdigit():
        unseen = speakers[-int(unseen[0]) :]
    strange = sorted(set(unseen) - set(speakers))
    if strange:
        raise MeshError(f"{path}: no speaker {', '.join(strange)}, there is {', '.join(speakers)}")
    entries = [(split, k, clip) for split in store.meta["splits"] for k, clip in enumerate(store.clips(split))]
    identity = {}
    for split, index, clip in entries:
        part = store.track(split, index).parts()["id"][0]
        identity.setdefault(clip["speaker"], []).append(part)
    for split, index, clip in tqdm(entries, unit="clip", disable=not progress or None):
        track = store.track(split, index)
        mean_id = np.mean(identity[clip["speaker"]], 0).astype(np.float32)
        template = face.mean.numpy() + face.id_basis.numpy() @ mean_id
        new_split = "test" if clip["speaker"] in unseen else {"test": seen_to}.get(split, split)
        features = {name: store.array(split, name, index) for name in ("phonemes", "mel", "energy")}
        wav = load_audio_bytes(store.bytes(split, "audio", index))
        motion = track.parts()["exp"].astype(np.float32)
        for name, start, end in pieces(clip["name"], len(motion), cut_seconds):
            if writer.has(name):
                continue
            rows = {key: x[ROWS_PER_FRAME * start : ROWS_PER_FRAME * end] for key, x in features.items()}
            writer.extract = lambda wav, rows=rows: rows  # the store holds the features of the same sound
            sound = wav[start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
            writer.add(MeshClip(name, clip["speaker"], new_split, track.fps, template, motion[start:end], sound))
    return writer.finish([f"face tracks of {Path(path).name}"])


def pieces(name, n_frames, seconds):
    """[(name, first frame, end), ...]: a clip whole, or in equal pieces of about so many seconds."""
    n = max(1, round(n_frames / FPS / seconds)) if seconds else 1
    edges = np.linspace(0, n_frames, n + 1).round().astype(int)
    if n == 1:
        return [(name, 0, n_frames)]
    return [(f"{name}_p{k:02d}", int(a), int(b)) for k, (a, b) in enumerate(zip(edges[:-1], edges[1:], strict=True))]


def load_audio_bytes(data):
    """Bytes of a wav file -> (N,) at 16 kHz."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return load_audio(samples, rate)


def read_curves(path, names):
    """ARKit curves -> (curves (T, 52) in the order of `names`, fps).

    .csv: one row a frame, columns by name (jawOpen or JawOpen), as Live Link Face writes; fps from a column `time_s` if there is one.
    .json: {"fps": ..., "names": [...], "weights": [[...], ...]}, as `inference.py --mesh` writes. A curve that is missing is 0; one
    that ARKit does not know is passed over.
    """
    path = Path(path)
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        columns, rows, fps = content["names"], np.array(content["weights"], np.float32), float(content["fps"])
    else:
        with path.open(newline="") as file:
            table = list(csv.reader(file))
        columns = table[0]
        keep = [k for k, name in enumerate(columns) if name.lower() not in ("timecode", "blendshapecount")]
        rows = np.array([[float(row[k]) for k in keep] for row in table[1:] if row], np.float32)
        columns, fps = [columns[k] for k in keep], CURVES_FPS
        if "time_s" in columns and len(rows) > 1:
            time = rows[:, columns.index("time_s")]
            fps = float((len(time) - 1) / (time[-1] - time[0]))
    place = {name.lower(): k for k, name in enumerate(columns)}
    known = [name for name in names if name.lower() in place]
    if len(known) < 20 or rows.ndim != 2 or len(rows) == 0:
        raise MeshError(f"{path}: {len(known)} of 52 ARKit curves by name and shape {rows.shape}: use ARKit's names")
    out = np.zeros((len(rows), len(names)), np.float32)
    for name in known:
        out[:, names.index(name)] = rows[:, place[name.lower()]]
    return out, fps


def prepare_curves(folder, output, unseen=(), cut_seconds=0.0, seen_to="test_seen", progress=True):
    """Files NAME.csv or NAME.json beside NAME.wav -> MeshFolder; the subject is the name up to the first `_`. Nothing is cut or moved."""
    files = sorted([*Path(folder).glob("*.csv"), *Path(folder).glob("*.json")])
    if not files:
        raise MeshError(f"{folder}: no .csv or .json with curves, and no data.mdb of a store")
    face, writer = open_writer(output)
    names = list(face.expression_names)
    for k, path in enumerate(tqdm(files, unit="clip", disable=not progress or None)):
        wav = path.with_suffix(".wav")
        if not wav.is_file():
            raise MeshError(f"{wav}: missing: every file of curves needs its sound beside it")
        if writer.has(path.stem):
            continue
        curves, fps = read_curves(path, names)
        subject = path.stem.split("_")[0]
        split = "test" if subject in unseen else "val" if k % 10 == 9 else "train"
        writer.add(MeshClip(path.stem, subject, split, fps, face.mean.numpy(), curves, load_audio(wav)))
    return writer.finish([f"ARKit curves of {Path(folder).name}"])
