"""Talking meshes on disk: one folder for any data set, whatever it came from.

    python -m data_process.meshes data/lmdb/world --output data/meshes/world --unseen 4      # face tracks of a store
    python -m data_process.meshes data/curves --output data/meshes/curves                    # ARKit curves with sound
    python -m data_process.meshes data/meshes/vocaset --basis 64                             # another basis for a folder

A folder holds
    meshes.json        topology, clips (name, subject, split, fps, frames), audio features, notes
    templates.npz      {subject: (V, 3)} without expression, in the topology's unit
    vertices_npy/NAME.npy   (T, V, 3) float32, vertices as VOCASET's users know them; absent where the basis says all
    coefficients/NAME.npy   (T, K) float32 in the basis
    basis.npz          basis (K, V, 3): vertices = template + coefficients . basis; names
    wav/NAME.wav       16 kHz mono, as long as the motion
    features/NAME.npz  audio features at 50 Hz
    stats.json         means and deviations over the train split
`process_voca_data`, `BIWI` and `MEAD` write the same. Frame i of a clip is at i / fps seconds of its sound: both are cut to the
shorter of the two, never stretched. Records are written last, so a command that was stopped goes on where it was.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from data_process.outputs import write_aside
from data_process.schema import StoreError
from data_process.stats import Moments
from deep_3drecon.assets import AssetError
from deep_3drecon.face_model import FaceModelError
from deep_3drecon.topology import TopologyError, load_topology
from deep_3drecon.track import resample
from deepspeech import SAMPLE_RATE, AudioError, features
from deepspeech.audio_io import load_audio

FORMAT = "idiolect-meshes-1"
SPLITS = ("train", "val", "test", "test_seen")
SHORTEST_S = 0.5
BASIS_FRAMES = 1500  # of the train split, evenly taken, from which a basis is found
CHUNK = 256  # frames projected at a time


class MeshError(StoreError):
    """Mesh data that is missing, of the wrong form, or does not fit together."""


@dataclass
class MeshClip:
    """One clip, before it is written.

    motion: (T, V, 3) vertices, or (T, K) coefficients of the folder's basis. template: (V, 3). wav: (N,) float32 at 16 kHz, or
    None. fps: of the motion. split: one of SPLITS.
    """

    name: str
    subject: str
    split: str
    fps: float
    template: np.ndarray
    motion: np.ndarray
    wav: np.ndarray | None = None


def to_common_time(motion, fps, wav, new_fps=None):
    """Motion (T, ...) and sound (N,) cut to the shorter of the two, motion resampled by time -> (motion, fps, wav)."""
    new_fps = fps if new_fps is None else new_fps
    seconds = len(motion) / fps if wav is None else min(len(motion) / fps, len(wav) / SAMPLE_RATE)
    motion = resample(motion[: max(1, int(np.floor(seconds * fps + 1e-6)))], fps, new_fps)
    if wav is not None:
        wav = wav[: round(len(motion) / new_fps * SAMPLE_RATE)]
    return np.ascontiguousarray(motion, np.float32), float(new_fps), wav


class MeshWriter:
    """Fills a folder clip by clip.

    topology: Topology. basis: (K, V, 3) with names, where motions come as coefficients. fps: rate to bring all clips to, None
    keeps theirs. extract: sound (N,) -> {name: (A, C)} at 50 Hz, default deepspeech.features, with `about`, what made it.
    """

    def __init__(self, folder, topology, basis=None, names=(), fps=None, extract=None, about=None):
        self.folder, self.topology, self.fps, self.extract = Path(folder), topology, fps, extract or features
        self.basis, self.names, self.about = basis, tuple(names), about or {"features": "phonemes, mel, energy"}
        for part in (
            "wav",
            "features",
            "records",
            "templates",
            "coefficients" if basis is not None else "vertices_npy",
        ):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def has(self, name):
        """Whether a clip is there already."""
        return (self.folder / "records" / f"{name}.json").is_file()

    def add(self, clip):
        """Write one clip -> its facts."""
        motion, fps, wav = to_common_time(clip.motion, clip.fps, clip.wav, self.fps)
        seconds = len(motion) / fps
        if seconds < SHORTEST_S or wav is None or not np.isfinite(motion).all():
            why = "no sound" if wav is None else f"{seconds:.2f} s" if seconds < SHORTEST_S else "motion is not finite"
            raise MeshError(f"{clip.name}: {why}: at least {SHORTEST_S} s of finite motion with sound are needed")
        if clip.split not in SPLITS:
            raise MeshError(f"{clip.name}: split {clip.split!r} came, there is {', '.join(SPLITS)}")
        if self.basis is None:
            motion = self.topology.check(motion, clip.name)
        np.save(self.folder / ("vertices_npy" if self.basis is None else "coefficients") / f"{clip.name}.npy", motion)
        template = self.folder / "templates" / f"{clip.subject}.npy"
        if not template.is_file():
            np.save(template, self.topology.check(clip.template, f"template of {clip.subject}").astype(np.float32))
        soundfile.write(self.folder / "wav" / f"{clip.name}.wav", wav, SAMPLE_RATE, subtype="PCM_16")
        rows = {name: np.asarray(x, np.float16) for name, x in self.extract(wav).items()}
        np.savez(self.folder / "features" / f"{clip.name}.npz", **rows)
        facts = {"name": clip.name, "subject": clip.subject, "split": clip.split, "fps": fps, "n_frames": len(motion)}
        facts["features"] = {name: x.shape[1] for name, x in rows.items()}
        write_aside(self.folder / "records" / f"{clip.name}.json", json.dumps(facts))
        return facts

    def finish(self, notes=(), basis_size=64):
        """Write what belongs to all clips; a basis is found where motions came as vertices -> MeshFolder."""
        clips = [json.loads(path.read_text()) for path in sorted((self.folder / "records").glob("*.json"))]
        if not clips:
            raise MeshError(f"{self.folder}: no clip was written")
        templates = {p.stem: np.load(p) for p in sorted((self.folder / "templates").glob("*.npy"))}
        np.savez(self.folder / "templates.npz", **templates)
        content = {
            "format": FORMAT, "topology": self.topology.name, "unit_mm": self.topology.unit_mm, "about": self.about,
            "notes": list(notes), "clips": clips,
        }  # fmt: skip
        write_aside(self.folder / "meshes.json", json.dumps(content, indent=1))
        if self.basis is not None:
            save_basis(self.folder, self.basis, self.names)
        else:
            fit_basis(self.folder, basis_size)
        folder = MeshFolder(self.folder)
        write_aside(self.folder / "stats.json", json.dumps(measure(folder)))
        return MeshFolder(self.folder)


class MeshFolder:
    """Reading side; holds no arrays but templates and basis. clips: all facts, `of(split)`: those of a split."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            content = json.loads((self.path / "meshes.json").read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise MeshError(
                f"{self.path / 'meshes.json'}: no mesh data here ({error}): prepare it with python -m "
                "data_process.process_voca_data, data_process.BIWI, data_process.MEAD or data_process.meshes"
            ) from error
        if content.get("format") != FORMAT:
            raise MeshError(f"{self.path}: not of format {FORMAT}: prepare it anew")
        self.content, self.clips = content, content["clips"]
        self.topology = load_topology(content["topology"])

    def of(self, split):
        """Facts of the clips of a split, in a fixed order."""
        return [clip for clip in self.clips if clip["split"] == split]

    def subjects(self, split="train"):
        """Names of those who speak in a split, sorted."""
        return sorted({clip["subject"] for clip in self.of(split)})

    def template(self, subject):
        """(V, 3) of a person."""
        with np.load(self.path / "templates.npz") as npz:
            if subject not in npz.files:
                raise MeshError(f"{self.path}: no template of {subject!r}, there is {', '.join(npz.files)}")
            return npz[subject]

    @property
    def basis(self):
        """(basis (K, V, 3), names)."""
        path = self.path / "basis.npz"
        if not path.is_file():
            raise MeshError(f"{path}: missing: run python -m data_process.meshes {self.path} --basis 64")
        with np.load(path) as npz:
            return npz["basis"], tuple(str(n) for n in npz["names"])

    @property
    def stats(self):
        """stats.json as a dict."""
        return json.loads((self.path / "stats.json").read_text())

    def coefficients(self, name):
        """(T, K) of a clip."""
        return np.load(self.path / "coefficients" / f"{name}.npy")

    def vertices(self, name, frames=slice(None)):
        """(n, V, 3) of a clip, as prepared, or out of its coefficients where those say all."""
        path = self.path / "vertices_npy" / f"{name}.npy"
        if path.is_file():
            return np.array(self.topology.check(np.load(path, mmap_mode="r")[frames], name))
        basis, _ = self.basis
        (clip,) = [c for c in self.clips if c["name"] == name]
        moved = self.coefficients(name)[frames] @ basis.reshape(len(basis), -1)
        return self.template(clip["subject"]) + moved.reshape(-1, *basis.shape[1:])

    def features(self, name):
        """{feature: (A, C) float32}."""
        with np.load(self.path / "features" / f"{name}.npz") as npz:
            return {key: npz[key].astype(np.float32) for key in npz.files}

    def wav(self, name):
        """Sound (N,) at 16 kHz."""
        return load_audio(self.path / "wav" / f"{name}.wav")


def save_basis(folder, basis, names):
    """Write basis.npz."""
    np.savez(Path(folder, "basis.npz"), basis=np.asarray(basis, np.float32), names=np.array(names))


def fit_basis(folder, size):
    """Principal components of the train split's displacements, and all clips' coefficients in them.

    Components are scaled so that a coefficient of 1 is one deviation. Returns the RMS of what is left in mm, over train frames.
    """
    data = MeshFolder(folder)
    clips = data.of("train") or data.clips
    n_frames = sum(clip["n_frames"] for clip in clips)
    step, sample = max(1, n_frames // BASIS_FRAMES), []
    for clip in clips:
        sample.append(_displacement(data, clip, slice(None, None, step)))
    sample = np.concatenate(sample)
    # components of V x 3 numbers by way of the smaller matrix of frames; about rest, not about the mean
    values, vectors = np.linalg.eigh(sample @ sample.T)
    keep = [k for k in range(len(values))[::-1][:size] if values[k] > values[-1] * 1e-10]
    directions = (vectors[:, keep] / np.sqrt(values[keep])).T @ sample
    scale = np.sqrt(values[keep] / len(sample))
    basis = (directions * scale[:, None]).reshape(len(keep), -1, 3).astype(np.float32)
    Path(folder, "coefficients").mkdir(exist_ok=True)
    back = (directions / scale[:, None]).T.astype(np.float32)
    for clip in tqdm(data.clips, unit="clip", disable=None):
        parts = range(0, clip["n_frames"], CHUNK)
        found = [_displacement(data, clip, slice(i, i + CHUNK)) @ back for i in parts]
        np.save(Path(folder, "coefficients", f"{clip['name']}.npy"), np.concatenate(found))
    save_basis(folder, basis, [f"component_{k}" for k in range(len(keep))])
    left = sample - (sample @ back) @ basis.reshape(len(keep), -1)
    return float(np.sqrt((left**2).sum(1).mean() / basis.shape[1]) * data.topology.unit_mm)


def _displacement(data, clip, frames):
    """(n, 3 V) float32 of some frames."""
    moved = data.vertices(clip["name"], frames) - data.template(clip["subject"])
    return moved.reshape(len(moved), -1).astype(np.float32)


def measure(data):
    """Means and deviations over the train split: of audio features and of the coefficients."""
    clips, moments, motion = data.of("train") or data.clips, {}, Moments()
    for clip in clips:
        motion.add(data.coefficients(clip["name"]))
        for name, rows in data.features(clip["name"]).items():
            moments.setdefault(name, Moments()).add(rows)
    return {"features": {name: m.values() for name, m in moments.items()}, "motion": motion.values()}


def main(argv=None):
    """Exit status: 0 prepared, 1 refused with a reason."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.meshes",
        description="Mesh clips of a store of face tracks, of ARKit curves, or their basis.",
    )
    parser.add_argument(
        "source", type=Path, help="LMDB store, folder of curves (.csv, .json) with .wav, or mesh folder"
    )
    parser.add_argument("--output", type=Path, help="folder to write")
    parser.add_argument("--unseen", nargs="*", default=[], help="speakers that go to test: names, or how many")
    parser.add_argument(
        "--cut_seconds", type=float, default=0.0, help="cut longer clips of a store into pieces (default no)"
    )
    parser.add_argument(
        "--seen_to",
        choices=("test_seen", "train"),
        default="test_seen",
        help="where the store's test clips of others go",
    )
    parser.add_argument("--basis", type=int, help="find a basis of so many components for a mesh folder")
    args = parser.parse_args(argv)
    from data_process.meshes_sources import prepare_curves, prepare_store

    try:
        if args.basis:
            left = fit_basis(args.source, args.basis)
            data = MeshFolder(args.source)
            write_aside(args.source / "stats.json", json.dumps(measure(data)))
            print(f"{args.source}: basis of {args.basis}, {left:.4f} mm RMS are left")
            return 0
        if args.output is None:
            parser.error("--output FOLDER is needed")
        prepare = prepare_store if (args.source / "data.mdb").is_file() else prepare_curves
        data = prepare(args.source, args.output, args.unseen, args.cut_seconds, args.seen_to)
    except (MeshError, TopologyError, StoreError, FaceModelError, AssetError, AudioError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(data))
    return 0


def summary(data):
    """What a folder holds, for people."""
    lines = [f"{data.path}: {data.topology.name}, {len(data.clips)} clips"]
    for split in SPLITS:
        clips = data.of(split)
        minutes = sum(c["n_frames"] / c["fps"] for c in clips) / 60
        lines += (
            [f"  {split}: {len(clips)} clips, {minutes:.1f} min, {len(data.subjects(split))} subjects"] if clips else []
        )
    return "\n".join(lines + [f"  note: {note}" for note in data.content["notes"]])


if __name__ == "__main__":
    sys.exit(main())
