"""Person folders from the clips of a store: what renderers of many people, or of a person filmed in many clips, are trained on.

    python -m data_process.people --lmdb data/lmdb --output data/people
    python -m data_process.people --lmdb data/lmdb --output data/people --speakers grid_s1 --seconds 60 --hold_out 0.2

Clips of a speaker follow each other in one clip.mp4; person.json names the frames at which they begin ("cuts"). The track is refined by
the pixels (`deep_3drecon.photometric`) with one identity for all of them; frames beside a cut count as lost, as smoothing mixes them.
A folder that is there is left as it is, so the command can be run again. `data_process.pictures` reads these folders.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process.face_tracks import refine_track
from data_process.outputs import write_aside
from data_process.schema import SPLITS, StoreError
from data_process.store import Store
from data_process.video import VideoError, VideoWriter, read_frames
from deep_3drecon.atlas import build_atlas
from deep_3drecon.face_model import load_face_model
from deep_3drecon.photometric_frames import PhotometricError
from deep_3drecon.track import FPS

CRF = 12
BESIDE_CUT = 2  # frames on each side of a cut that the smoothing of a track reaches
FORMAT = "idiolect-person-1"


def speakers_of(store, splits):
    """{speaker: [(split, index)]} of a store's clips, in the order of names."""
    found = {}
    for split in splits:
        for index, clip in enumerate(store.clips(split)):
            found.setdefault(clip["speaker"], []).append((clip["name"], split, index))
    return {speaker: [clip[1:] for clip in sorted(clips)] for speaker, clips in sorted(found.items())}


def read_clip(store, split, index):
    """Frames [(H, W, 3)] and FaceTrack of one clip."""
    track = store.track(split, index)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        path.write_bytes(store.bytes(split, "video", index))
        frames = list(read_frames(path, fps=FPS, max_frames=len(track)))
    if len(frames) < len(track):
        raise StoreError(f"{store.path}: clip {index} of {split} has {len(frames)} frames and a track of {len(track)}")
    return frames, track


def joined(clips):
    """One list of frames of one size, one FaceTrack with the mean identity, and the frames at which clips begin but the first.

    clips: [(frames, track)]. Smaller frames grow to the right and below by their last pixel, so that coordinates stay.
    """
    height, width = (max(frames[0].shape[axis] for frames, _ in clips) for axis in (0, 1))
    frames = [
        np.pad(f, ((0, height - f.shape[0]), (0, width - f.shape[1]), (0, 0)), mode="edge")
        for part, _ in clips
        for f in part
    ]
    first = clips[0][1]
    arrays = {
        n: np.concatenate([getattr(t, n) for _, t in clips]) for n in ("coeff", "landmarks", "crop", "valid", "scores")
    }
    identity = first.layout.split(arrays["coeff"])["id"]
    identity[:] = identity.mean(0)
    cuts = np.cumsum([len(track) for _, track in clips])[:-1]
    for cut in cuts:
        arrays["valid"][max(0, cut - BESIDE_CUT) : cut + BESIDE_CUT] = False
    return frames, replace(first, **arrays, frame_size=(width, height)), cuts.tolist()


def make_folder(clips, folder, hold_out, about):
    """Write the person folder of some clips [(frames, track)]; the last `hold_out` share of the frames (of several clips: whole ones)
    is not learnt from."""
    frames, track, cuts = joined(clips)
    track = refine_track(track, frames)
    end = len(track) - round(hold_out * len(track))
    if cuts and hold_out:
        end = min(cuts, key=lambda cut: abs(cut - end))
    texture = build_atlas(track.select(slice(0, end)), frames[:end], load_face_model(track.face_model))
    folder.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder / "clip.mp4", fps=FPS, crf=CRF) as video:
        for frame in frames:
            video.write(frame)
    track.save(folder / "track.npz")
    texture.save(folder / "atlas.npz")
    content = about | {"format": FORMAT, "learning": [0, end], "cuts": cuts, "frame_size": list(track.frame_size)}
    write_aside(folder / "person.json", json.dumps(content, indent=1) + "\n")


def make_people(lmdb, output, splits=("train",), speakers=None, seconds=60.0, hold_out=0.0):
    """Person folders of a store's speakers below `output` -> the folders made or found, and {speaker: why it was left out}."""
    store, found, left = Store(lmdb), [], {}
    clips_of = speakers_of(store, splits)
    unknown = sorted(set(speakers or ()) - set(clips_of))
    if unknown:
        raise StoreError(
            f"{lmdb}: no clips of {', '.join(unknown)} in {', '.join(splits)}; there is {', '.join(clips_of)}"
        )
    for speaker in tqdm(speakers or clips_of, unit="person"):
        folder = Path(output, speaker)
        if not (folder / "person.json").is_file():
            clips, n_frames = [], 0
            for split, index in clips_of[speaker]:
                if n_frames < seconds * FPS:
                    clips.append(read_clip(store, split, index))
                    n_frames += len(clips[-1][1])
            try:
                make_folder(clips, folder, hold_out, {"name": speaker, "store": Path(lmdb).name})
            except (PhotometricError, VideoError, ValueError) as error:
                left[speaker] = str(error)
                continue
        found.append(folder)
    store.close()
    return found, left


def main(argv=None):
    """Exit status: 0 all made, 1 refused or some left out."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.people", description="Person folders from the clips of a store."
    )
    parser.add_argument("--lmdb", required=True, help="store with videos, from data_process.build_lmdb")
    parser.add_argument("--output", required=True, help="folder of person folders")
    parser.add_argument(
        "--splits", nargs="+", default=["train"], choices=SPLITS, help="splits to take clips from (default train)"
    )
    parser.add_argument("--speakers", nargs="+", help="only these (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of clips of a speaker, about (default 60)")
    parser.add_argument(
        "--hold_out", type=float, default=0.0, help="share of the end that is not learnt from, 0..0.5 (default 0)"
    )
    args = parser.parse_args(argv)
    if not 0 <= args.hold_out <= 0.5:
        parser.error(f"--hold_out {args.hold_out}: 0 to 0.5 is needed")
    try:
        found, left = make_people(args.lmdb, args.output, args.splits, args.speakers, args.seconds, args.hold_out)
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for speaker, why in left.items():
        print(f"{speaker}: left out: {why}", file=sys.stderr)
    print(f"{len(found)} person folders in {args.output}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
