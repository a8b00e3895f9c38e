"""Clips -> LMDB store: landmarks, face track, audio features and, if asked for, face crops as JPEG.

    python -m data_process.build_lmdb --clips /data/clips --output data/grid.lmdb --split data/splits/grid_s1.json

Clips are the output of `data_process.clips`; other folders of mp4 + wav at 25 fps and 16 kHz do as well. Clips are
stored one transaction each, in order of their names, so a build that was stopped goes on with the same command and ends
in the same store. Layout: `schema`.

    ... --photometric                                                          # tracks refined by the pixels, with the light
    ... --encoders hubert_l9=models/hubert-base-ls960:9 --formula wav2lip      # further audio features: add_features
"""

import argparse
import contextlib
import functools
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process.add_features import add_arguments, add_features, chosen
from data_process.clip_records import ClipRecords, ClipSettings, process_clip, process_shared_clip
from data_process.outputs import write_aside
from data_process.parallel import WorkerError, map_in_order
from data_process.schema import StoreError
from data_process.splits import read_split_list, speakers, split_by_speaker
from data_process.store import StoreWriter
from data_process.video import VideoError, probe
from deep_3drecon.assets import AssetError
from deep_3drecon.face_model import FaceModelError, load_face_model
from deep_3drecon.track import FPS
from deepspeech import FEATURE_HZ, PHONEMES, SAMPLE_RATE, WeightsError


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
        seconds_of, damaged = {}, {}
        for name, path in clips.items():
            try:
                seconds_of[name] = probe(path).duration
            except VideoError as error:
                damaged[name] = str(error)
        if not seconds_of:
            raise StoreError(f"none of {len(clips)} clips can be read, the first: {next(iter(damaged.values()))}")
        whole = {name: speaker_of[name] for name in seconds_of}
        return split_by_speaker(whole, seconds_of, fractions, seed), damaged
    split_of, absent = read_split_list(split, clips)
    if absent:
        print(f"note: {len(absent)} names of {split} have no clip, the first {absent[0]}", file=sys.stderr)
    return split_of, {name: f"not named in {Path(split).name}" for name in clips if name not in split_of}


def build(
    clips, output, split_of, speaker_of, settings=None, workers=1, left_out=None, progress=True, ray=None, retry=False
):
    """Process clips {name: path} and write the store -> its `meta`.

    split_of, speaker_of: {name: split}, {name: speaker}. left_out: {name: reason} noted in the store's list of skipped
    clips. workers: processes on this machine. ray: address of a Ray cluster that does the work instead of them. retry: try
    clips again that an earlier run skipped.
    """
    settings = settings or ClipSettings()
    model = load_face_model(settings.face_model)
    fixed = {"clip": settings.facts(), "face_model_hash": model.hash, "phonemes": list(PHONEMES)}
    with StoreWriter(output, fixed) as store:
        _forget_skipped(clips, split_of, store, retry)
        todo = _not_yet_stored(clips, split_of, store)
        results = _process_all([str(clips[name]) for name in todo], settings, workers, ray)
        with (
            contextlib.closing(results),
            tqdm(total=len(split_of), initial=len(split_of) - len(todo), unit="clip", disable=not progress) as bar,
        ):
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


def _process_all(paths, settings, workers, ray):
    """Yield the ClipRecords of the clips in order, whoever makes them."""
    if ray is None:
        return map_in_order(functools.partial(process_clip, settings=settings), paths, workers, _killer)
    from data_process.ray_workers import map_on_cluster  # imported late: Ray is optional

    return map_on_cluster(functools.partial(process_shared_clip, settings=settings), paths, ray, _killer)


def _killer(path, reason):
    """ClipRecords of a clip that costs every worker its life."""
    return ClipRecords({}, {}, [], f"{path}: {reason}: too long for the memory, or a file that breaks the decoder")


def _forget_skipped(clips, split_of, store, retry):
    """Strike those skipped clips from the journal that are gone or have been repaired; with `retry` all of them."""
    for name, entry in list(store.journal.items()):
        if "skipped" in entry and (retry or name not in split_of or entry["key"] != clip_key(clips[name])):
            store.forget(name)


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
        prog="python -m data_process.build_lmdb",
        description="Turn clips into an LMDB store with landmarks, face tracks and audio features.",
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
    tracks = parser.add_mutually_exclusive_group()
    tracks.add_argument(
        "--tracks", choices=("fit", "stored"), default="fit",
        help="fit the face model to the clip, or take the <name>.coeff.npz that lies beside it (default %(default)s)",
    )  # fmt: skip
    tracks.add_argument(
        "--photometric", action="store_true",
        help="refine shape, pose, expression by the pixels and add the light, as deep_3drecon.reconstruct --photometric does; "
        "takes several times as long",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, default=0, help="also store face crops of this many px, 64 to 1024 (default: none)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--workers", type=int, default=1, help="processes on this machine (default 1)")
    how.add_argument(
        "--ray", metavar="ADDRESS",
        help="do the work on a Ray cluster instead: host:port of its head, or auto on one of its machines. All of them need "
        "this program and the clips under the same paths; this process alone writes the store",
    )  # fmt: skip
    parser.add_argument("--retry", action="store_true", help="try clips again that an earlier run skipped")
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
        try:
            out[name] = str(json.loads(about.read_text())["source"]) if about.is_file() else str(path)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{about}: cannot be read ({error}): delete it with the clip, or cut the clip again"
            ) from error
    return out


def main(argv=None):
    """Exit status: 0 the store is complete, 1 it could not be built, 130 after Ctrl-C."""
    args = parse(argv)
    try:
        clips = find_clips(args.clips)
        speaker_of = speakers(sources(clips), args.speaker_from)
        split_of, left_out = assign_splits(clips, args.split, args.fractions, args.seed, speaker_of)
        further = chosen(args)
        tracks = "photometric" if args.photometric else "stored" if args.tracks == "stored" else None
        settings = ClipSettings(args.face_model, args.frames, tracks)
        meta = build(
            clips, args.output, split_of, speaker_of, settings, args.workers, left_out, ray=args.ray, retry=args.retry
        )
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
