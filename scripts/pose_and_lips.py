"""Do the lips stay right when the head moves? The same sounds and faces with a still head and with generated motion, as a table.

    python -m scripts.pose_and_lips --faces data/people/ANNA picture.png --ref_pose clip.mp4 --sounds *.wav --output data/reports/lips
    python -m scripts.pose_and_lips --faces picture.png --ref_pose clip.mp4 --lmdb data/lmdb --output data/reports/lips
    python -m scripts.pose_and_lips data/reports/lips/lines.jsonl            the table of what was measured

Videos are made as inference.py makes them, the n-th sound on the n-th face and round again. --lmdb takes clips of a store as sounds, which
brings the true motion of the lips. Measured of each video, three times:

motion     coefficients: lip vertex error, correlation and distance of the opening against the truth (with --lmdb), closure on p, b, m.
           They know no pose, so they are the same if the mouth has no part in it; "mouth" is the largest difference of a coefficient.
projected  the landmarks of the same motion seen by an exact camera: what the pose alone does to `lip_sync`
seen       landmarks found in the encoded video: what is left after renderer, encoding and finding

Offsets in frames of 1/25 s, + is sound later. Means over cases, in brackets 95 % bootstrap intervals; the last row is the mean of the
differences within cases.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

import deepspeech
from data_process.face_tracks import landmarker
from data_process.landmarks import NoFaceError
from data_process.schema import StoreError
from data_process.store import Store
from data_process.video import VideoError, read_frames
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import points68
from deep_3drecon.track import FPS
from deepspeech.lip_sync import LipSync, lip_shape
from models import metrics, speech_metrics
from models.checkpoint import CheckpointError
from models.person import PersonError
from scripts.evaluation.motion import Shape
from scripts.inference import options, run

ROWS = {"still": ["--pose", "still"], "generated": ["--pose", "generated"]}
COLUMNS = {
    "mouth": "mouth, largest difference",
    "lve_mm": "lip vertex error, mm",
    "lip_correlation": "opening, r",
    "mod_mm": "opening, mm off",
    "closure": "closed on p b m",
    "projected_offset": "projected: offset",
    "projected_score": "score",
    "seen_offset": "seen: offset",
    "seen_away": "offset, absolute",
    "seen_score": "score",
    "seen_opening": "opening against projected, r",
}
EYES_AND_BROWS = ("eye", "brow")  # expressions that head motion brings with it


@dataclass
class Sound:
    """A sound file; truth: true expressions (T, E) and phones, where they are known."""

    path: Path
    truth: np.ndarray | None = None
    phones: list | None = None


def store_sounds(lmdb, split, folder, count):
    """`Sound`s of the first clips of a store's split, one of each speaker in turn, written to a folder."""
    store, by_speaker = Store(lmdb), {}
    for index, about in enumerate(store.clips(split)):
        by_speaker.setdefault(about["speaker"], []).append((index, about))
    turns = [clips[k] for k in range(count) for clips in by_speaker.values() if k < len(clips)][:count]
    for index, about in turns:
        path = folder / f"{about['name']}.flac"
        path.write_bytes(store.bytes(split, "audio", index))
        yield Sound(path, store.track(split, index).parts()["exp"].copy(), about.get("phones"))


def cut(sound, folder, seconds):
    """The beginning of a sound as a wav file at 16 kHz, named as the sound."""
    wav = deepspeech.load_audio(sound.path)[: round(seconds * deepspeech.SAMPLE_RATE)]
    path = folder / f"{sound.path.stem}.wav"
    soundfile.write(path, wav, deepspeech.SAMPLE_RATE, subtype="PCM_16")
    return path


def make(face, wav, row, args):
    """Motion {"exp", "angle", "trans"} and path of the video of one row; made once."""
    name = f"{face.stem}__{wav.stem}__{row}"
    who = ["--person", str(face)] if face.is_dir() else ["--source_image", str(face)]
    ref = ["--ref_pose", str(args.ref_pose)] if args.ref_pose and row != "still" and not face.is_dir() else []
    asked = options.parse([
        *who, "--driven_audio", str(wav), "--result_dir", str(args.output / "videos"), "--name", name, "--overwrite",
        "--style_clip", args.style, "--preprocess", "crop", "--threads", "1", *ROWS[row], *ref,
    ])  # fmt: skip
    video = run.video_paths(asked, name, {"_face": False} if face.is_dir() else {"": False})[0]
    if not video.is_file():
        run.run(asked)
    with np.load(args.output / "videos" / f"{name}.npz") as made:
        return {part: made[part] for part in ("exp", "angle", "trans")}, video


class Measures:
    """What lips are measured with: the open head, its shape, the probe of lip sync."""

    def __init__(self):
        self.face, self.probe = load_face_model("open"), LipSync.load()
        self.shape, self.identity = Shape(self.face), np.zeros(self.face.id_basis.shape[-1], np.float32)
        names = self.face.expression_names
        self.mouth = [k for k, name in enumerate(names) if not name.lower().startswith(EYES_AND_BROWS)]

    def of_motion(self, motion, sound, features):
        """Of coefficients alone."""
        opening = self.shape.mouth(self.identity, motion["exp"])[0]
        phones = sound.phones or speech_metrics.earlier(deepspeech.phone_spans(features["phonemes"]))
        found = {"closure": speech_metrics.closure_rate(opening, phones, FPS)["bilabial"]}
        if sound.truth is None:
            return found
        true = sound.truth[: len(opening)]
        opening, exp = opening[: len(true)], motion["exp"][: len(true)]
        agreement = metrics.curve_agreement(opening, self.shape.mouth(self.identity, true)[0], np.ones(len(true), bool))
        lips = [self.shape.geometry.vertices("lips", self.identity, x) for x in (exp, true)]
        found |= {"lve_mm": metrics.lip_vertex_error(*lips), "mod_mm": agreement["distance"]}
        return found | {"lip_correlation": agreement["correlation"]}

    def projected(self, motion):
        """`lip_shape` (T, 2) of the motion by an exact camera."""
        exp, angle, trans = (torch.as_tensor(motion[name]).float() for name in ("exp", "angle", "trans"))
        identity = torch.zeros(len(exp), len(self.identity))
        points = self.face.landmarks(camera.pose(self.face.vertices(identity, exp), angle, trans))
        return lip_shape(points68(camera.project(points).numpy()))

    def __call__(self, motion, video, sound, features):
        """{metric: value} of one video."""
        lips = self.projected(motion)
        track = landmarker().track(read_frames(video))
        seen = lip_shape(points68(track.points[..., :2]))
        ideal, found = self.probe.measure(features, lips), self.probe.measure(features, seen, track.valid)
        return self.of_motion(motion, sound, features) | {
            "projected_offset": ideal.offset_frames,
            "projected_score": ideal.score,
            "seen_offset": found.offset_frames,
            "seen_away": abs(found.offset_frames),
            "seen_score": found.score,
            "seen_opening": metrics.correlation(seen[:, 0], lips[: len(seen), 0], track.valid),
            "turn_deg": float(np.degrees(motion["angle"].std(0)).sum()),
        }


def report(args, sounds):
    """Add to lines.jsonl what is not there yet: {"case", "row", metrics}."""
    measure, folder, path = Measures(), args.output / "sounds", args.output / "lines.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    done = {line["case"] for line in read(path)} if path.is_file() else set()
    for number, sound in enumerate(tqdm(sounds, unit="sound", disable=None)):
        face, wav, lines = args.faces[number % len(args.faces)], cut(sound, folder, args.seconds), []
        if (case := f"{face.stem}__{wav.stem}") in done:
            continue
        features = deepspeech.features(deepspeech.load_audio(wav))
        made = {row: make(face, wav, row, args) for row in ROWS}
        for row, (motion, video) in made.items():
            apart = np.abs(motion["exp"] - made["still"][0]["exp"])[:, measure.mouth].max()
            lines.append({"case": case, "row": row, "mouth": float(apart)} | measure(motion, video, sound, features))
        with path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path):
    """Lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(lines):
    """Markdown."""
    cases = {row: [line for line in lines if line["row"] == row] for row in ROWS}
    out = ["| head | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    values = {
        row: {m: np.array([line.get(m, np.nan) for line in of], float) for m in COLUMNS} for row, of in cases.items()
    }
    values["difference"] = {m: values["generated"][m] - values["still"][m] for m in COLUMNS}
    for row, found in values.items():
        out.append(f"| {row} | " + " | ".join(cell(x) for x in found.values()) + " |")
    turn = np.mean([line["turn_deg"] for line in cases["generated"]])
    return "\n".join(
        [*out, "", f"{len(cases['still'])} cases; spread of the three angles together {turn:.1f} degrees."]
    )


def cell(values):
    """ "mean [low, high]" of the finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    low, high = metrics.bootstrap_interval(values)
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def main(argv=None):
    """Exit status: 0 measured, 1 refused with a reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="?", type=Path, help="lines that were measured")
    parser.add_argument("--faces", nargs="+", type=Path, help="person folders and pictures")
    parser.add_argument("--ref_pose", type=Path, help="video or face track whose habits move the pictures' heads")
    parser.add_argument("--sounds", nargs="+", type=Path, default=[], help="speech")
    parser.add_argument("--lmdb", help="store whose clips are the sounds, with the true motion")
    parser.add_argument("--split", default="test", help="of the store (default test)")
    parser.add_argument("--count", type=int, default=12, help="clips of the store (default 12)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each sound at most (default 8)")
    parser.add_argument("--style", default="mean", help="as --style_clip of inference.py (default mean)")
    parser.add_argument("--output", type=Path, default=Path("data/reports/lips"))
    args = parser.parse_args(argv)
    try:
        if args.faces:
            args.output.mkdir(parents=True, exist_ok=True)
            sounds = [Sound(path) for path in args.sounds]
            if args.lmdb:
                sounds += store_sounds(args.lmdb, args.split, args.output, args.count)
            args.lines = report(args, sounds)
        if not args.lines:
            parser.error("--faces with --sounds or --lmdb, or a file of lines is needed")
        print(table(read(args.lines)))
    except (StoreError, CheckpointError, PersonError, NoFaceError, VideoError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
