"""Clips -> LMDB store: landmarks, face track, audio features and, if asked for, face crops as JPEG.

    python -m data_process.build_lmdb --clips /data/clips --output data/grid.lmdb --split data/splits/grid_s1.json

Clips are the output of `data_process.clips`; other folders of mp4 + wav at 25 fps and 16 kHz do as well. Clips are
stored one transaction each, in order of their names, so a build that was stopped goes on with the same command and ends
in the same store. Layout: `schema`.

    ... --encoders hubert_l9=models/hubert-base-ls960:9 --formula wav2lip      # further audio features: add_features
"""

import argparse
import functools
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from tqdm import tqdm

from data_process import schema
from data_process.add_features import add_arguments, add_features, chosen
from data_process.cutting import load_landmarks
from data_process.face_tracks import landmarker, track_landmarks, track_quality
from data_process.landmarks import NoFaceError
from data_process.ledger import write_aside
from data_process.parallel import WorkerError, map_in_order
from data_process.schema import StoreError
from data_process.splits import read_split_list, speakers, split_by_speaker
from data_process.store import StoreWriter
from data_process.stored_tracks import stored_track
from data_process.video import VideoError, probe, read_frames
from deep_3drecon import camera
from deep_3drecon.assets import AssetError
from deep_3drecon.face_model import FaceModelError, load_face_model
from deep_3drecon.fit import FitError
from deep_3drecon.landmarks import points5
from deep_3drecon.track import FPS, TrackError
from deepspeech import FEATURE_HZ, PHONEMES, SAMPLE_RATE, AudioError, WeightsError, features, load_audio
from deepspeech.timing import SAMPLES_PER_FRAME

JPEG_QUALITY = 92
MIN_FRAMES = 3  # a style cannot be measured on fewer


@dataclass(frozen=True)
class ClipSettings:
    """What is made of a clip. frames: side in px of the JPEG face crops, 0 for none.

    tracks: None for a fit of our own, "stored" for the coefficients that came with the clip.
    """

    face_model: str = "open"
    frames: int = 0
    tracks: str | None = None


@dataclass
class ClipRecords:
    """Everything the store keeps of one clip; `skipped` says why there is nothing."""

    records: dict
    info: dict
    frames: list
    skipped: str = ""


def process_clip(path, settings=ClipSettings()):
    """One clip (path of its mp4) -> ClipRecords: bytes by record name, facts for `meta`, JPEGs. Writes nothing.

    Needs <name>.wav beside it; uses <name>.landmarks.npz if it is there and else finds the landmarks itself.
    """
    try:
        return _process(Path(path), settings)
    except (VideoError, AudioError, NoFaceError, FitError, StoreError, TrackError) as error:
        return ClipRecords({}, {}, [], str(error))


def _process(path, settings):
    video = path.read_bytes()
    landmarks = _landmarks(path)
    n_frames = len(landmarks)
    if n_frames < MIN_FRAMES:
        raise StoreError(f"{path}: {n_frames} frames, at least {MIN_FRAMES} are needed")
    if settings.tracks == "stored":
        track = stored_track(path, landmarks, settings.face_model)
    else:
        track = track_landmarks(landmarks, settings.face_model)
    lm68 = track.landmarks68.astype(np.float32)
    sound = load_audio(path.with_suffix(".wav"))
    if len(sound) != n_frames * SAMPLES_PER_FRAME:
        raise StoreError(
            f"{path}: {n_frames} frames but {len(sound)} samples of sound, "
            f"{n_frames * SAMPLES_PER_FRAME} are needed: cut it with python -m data_process.clips"
        )
    arrays = {"lm5": points5(lm68), "lm68": lm68, "coeff": track.coeff, **features(sound)}
    records = {name: schema.pack_array(np.asarray(value, np.float32)) for name, value in arrays.items()}
    records |= {"video": video, "audio": path.with_suffix(".wav").read_bytes(), "track": schema.pack_track(track)}
    info = {"n_frames": n_frames, "frame_size": list(track.frame_size), **_rounded(track_quality(track))}
    return ClipRecords(records, info, list(_jpegs(path, track, settings.frames)) if settings.frames else [])


def _landmarks(path):
    """LandmarkTrack of a clip at 25 fps, read or found."""
    stored = path.with_suffix(".landmarks.npz")
    if stored.is_file():
        return load_landmarks(stored)
    fps = probe(path).fps
    if abs(fps - FPS) > 0.01:
        raise StoreError(f"{path}: {fps:.4g} fps, {FPS} are needed: cut it with python -m data_process.clips")
    return landmarker().track(read_frames(path))


def _jpegs(path, track, size):
    """Face crops of every frame at size x size px, as JPEG bytes."""
    crops, n_frames = torch.from_numpy(track.crop).double(), 0
    # a crop smaller than its source is sampled finer first: bilinear sampling alone would skip pixels
    finer = max(1, int(np.ceil(camera.CROP_SIZE / size / float(crops[0, 0, 0]))))
    affines = camera.scale_crop(crops, size * finer).numpy()
    for frame, affine in zip(read_frames(path), affines, strict=False):
        image = cv2.warpAffine(frame, affine, (size * finer, size * finer), borderMode=cv2.BORDER_REPLICATE)
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) if finer > 1 else image
        yield simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
        n_frames += 1
    if n_frames != len(track):
        raise StoreError(
            f"{path}: {n_frames} frames can be read, its landmarks are of {len(track)}: cut the clip again"
        )


def _rounded(quality):
    """Figures for JSON, which knows no NaN."""
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in quality.items()}


# ------------------------------------------------------------------------------------------ the whole store


def find_clips(folder):
    """{name: path of the mp4} of a folder of clips, in order of the names."""
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder: make it with python -m data_process.clips")
    clips = {p.stem: p for p in sorted(folder.glob("*.mp4")) if not p.name.startswith(".")}
    if not clips:
        raise StoreError(f"{folder}: holds no mp4: make clips with python -m data_process.clips")
    return clips


def clip_key(path):
    """State of a clip's files: hash of the sizes and of what `clips` wrote about it."""
    about = path.with_suffix(".json")
    sizes = [p.stat().st_size if p.is_file() else None for p in (path, path.with_suffix(".wav"))]
    return hashlib.sha256(json.dumps(sizes).encode() + (about.read_bytes() if about.is_file() else b"")).hexdigest()[
        :16
    ]


def assign_splits(clips, split, fractions, seed, speaker_of):
    """{clip: split} from a list file, or by speaker when `split` is None; and {clip: reason} of those left out."""
    if split is None:
        seconds_of = {name: probe(path).duration for name, path in clips.items()}
        return split_by_speaker(speaker_of, seconds_of, fractions, seed), {}
    split_of, absent = read_split_list(split, clips)
    if absent:
        print(f"note: {len(absent)} names of {split} have no clip, the first {absent[0]}", file=sys.stderr)
    return split_of, {name: f"not named in {Path(split).name}" for name in clips if name not in split_of}


def build(clips, output, split_of, speaker_of, settings=ClipSettings(), workers=1, left_out=None, progress=True):
    """Process clips {name: path} and write the store -> its `meta`.

    split_of, speaker_of: {name: split}, {name: speaker}. left_out: {name: reason} noted in the store's list of skipped
    clips.
    """
    model = load_face_model(settings.face_model)
    # what is left at None leaves no trace, so that stores begun before it could be chosen go on
    chosen_of = {name: value for name, value in asdict(settings).items() if value is not None}
    fixed = {"clip": chosen_of, "face_model_hash": model.hash, "phonemes": list(PHONEMES)}
    with StoreWriter(output, fixed) as store:
        todo = _not_yet_stored(clips, split_of, store)
        function = functools.partial(process_clip, settings=settings)
        results = map_in_order(function, [str(clips[name]) for name in todo], workers)
        with tqdm(total=len(split_of), initial=len(split_of) - len(todo), unit="clip", disable=not progress) as bar:
            for name, result in zip(todo, results, strict=False):
                key = clip_key(clips[name])
                if result.skipped:
                    store.skip(name, key, result.skipped)
                else:
                    info = {**result.info, "speaker": speaker_of[name]}
                    store.add(name, key, split_of[name], result.records, info, result.frames)
                bar.update()
        extra = {
            "rates": {"fps": FPS, "audio_hz": SAMPLE_RATE, "feature_hz": FEATURE_HZ},
            "face_model": model.name, "face_model_hash": model.hash, "layout": model.layout.sizes,
            "expression_names": list(model.expression_names), "phonemes": list(PHONEMES),
            "speakers": sorted({speaker_of[name] for name in split_of}),
        }  # fmt: skip
        meta = store.finish(extra, left_out or {})
    return meta


def _not_yet_stored(clips, split_of, store):
    """Names still to do, after checking that what is stored is still what the clips and the split say."""
    for name, entry in store.journal.items():
        if name not in clips or name not in split_of:
            raise StoreError(f"{store.path}: holds {name}, which is no longer asked for: build to a new path")
        if entry["key"] != clip_key(clips[name]):
            raise StoreError(f"{store.path}: {name} has changed since it was stored: build to a new path")
        if entry.get("split", split_of[name]) != split_of[name]:
            raise StoreError(
                f"{store.path}: {name} is in {entry['split']}, now {split_of[name]} is asked: build to a new path"
            )
    return [name for name in sorted(split_of) if name not in store.journal]


def summary(meta):
    """`meta` of a store -> text for people."""
    lines = []
    for split, clips in meta["splits"].items():
        frames = sum(clip["n_frames"] for clip in clips)
        who = len({clip["speaker"] for clip in clips})
        lines.append(f"{split}: {len(clips)} clips, {frames / FPS / 60:.1f} min, {who} speakers")
    # stores that were not built here, such as made ones, may come without these figures
    clips = [clip for part in meta["splits"].values() for clip in part if "reprojection" in clip]
    if clips:
        reprojection = [clip["reprojection"] for clip in clips]
        correlation = [clip["lip_correlation"] for clip in clips if clip["lip_correlation"] is not None]
        lines.append(
            f"face found in {np.mean([clip['tracked'] for clip in clips]):.1%} of the frames; 68-landmark error median "
            f"{np.median(reprojection):.2f} %, worst {max(reprojection):.2f} % of the eyes' distance; lip opening "
            f"correlation median {np.median(correlation or [np.nan]):.3f}"
        )
    if meta["skipped"]:
        lines += ["", f"Skipped: {len(meta['skipped'])}"]
        lines += [f"  {name}: {reason}" for name, reason in meta["skipped"].items()]
    return "\n".join(lines) + "\n"


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        description="Turn clips into an LMDB store with landmarks, face tracks and audio features."
    )
    parser.add_argument("--clips", required=True, help="folder made by data_process.clips")
    parser.add_argument("--output", required=True, help="LMDB folder to write or to go on with")
    parser.add_argument(
        "--split", help="JSON: {train: [...], val: [...], test: [...]} of clip names, or a list of test names"
    )
    parser.add_argument(
        "--fractions", nargs=3, type=float, default=(0.8, 0.1, 0.1), metavar=("TRAIN", "VAL", "TEST"),
        help="without --split: shares of the time, whole speakers (default 0.8 0.1 0.1)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="order of the speakers for --fractions (default 1)")
    parser.add_argument(
        "--speaker_from", default="parent",
        help='who speaks: "parent" folder of the source (default), "one", a JSON {name or pattern: speaker}, '
        "or a regular expression with one group",
    )  # fmt: skip
    parser.add_argument("--face_model", default="open", help="face model of the tracks (default open)")
    parser.add_argument(
        "--tracks", choices=("fit", "stored"), default="fit",
        help="fit the face model to the clip, or take the <name>.coeff.npz that lies beside it (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, default=0, help="also store face crops of this many px, 64 to 1024 (default: none)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    add_arguments(parser.add_argument_group("further audio features, computed when all clips are stored"))
    args = parser.parse_args(argv)
    if args.frames and not 64 <= args.frames <= 1024:
        parser.error(f"--frames {args.frames}: 64 to 1024 px, or 0 for none")
    return args


def sources(clips):
    """{name: path of the raw video}, as `clips` wrote it down; the clip's own path where it did not."""
    out = {}
    for name, path in clips.items():
        about = path.with_suffix(".json")
        out[name] = json.loads(about.read_text())["source"] if about.is_file() else str(path)
    return out


def main(argv=None):
    """Exit status: 0 the store is complete, 1 it could not be built, 130 after Ctrl-C."""
    args = parse(argv)
    try:
        clips = find_clips(args.clips)
        speaker_of = speakers(sources(clips), args.speaker_from)
        split_of, left_out = assign_splits(clips, args.split, args.fractions, args.seed, speaker_of)
        further = chosen(args)
        settings = ClipSettings(args.face_model, args.frames, "stored" if args.tracks == "stored" else None)
        meta = build(clips, args.output, split_of, speaker_of, settings, args.workers, left_out)
        if further and any(meta["splits"].values()):
            meta = add_features(args.output, further)
    except KeyboardInterrupt:
        print(f"\nstopped; what is in {args.output} is whole: run the same command to go on", file=sys.stderr)
        return 130
    except (StoreError, VideoError, WorkerError, AssetError, FaceModelError, WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = summary(meta)
    write_aside(Path(args.output, "report.txt"), text)
    print(text, end="")
    return 0 if any(meta["splits"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
