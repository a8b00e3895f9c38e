"""Do coefficients of another system belong to this clip? Their head pose and lips against our own track of its video.

    python -m data_process.coeff_check --coeff clip.mat --video clip.mp4
    python -m data_process.coeff_check --coeff /data/coeff --video /data/clips --output table.json     # pairs by name

No face model of theirs is needed: Euler angles have the same meaning in both, and the lips are compared through a linear map
from their expression coefficients, learnt on one part of the clip and judged on the others.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from data_process.coeff_files import read_coeff
from data_process.coeff_forms import FORMS
from data_process.coeff_track import CoeffFileError
from data_process.outputs import write_aside
from data_process.video import VIDEO_SUFFIXES, probe
from deep_3drecon.landmarks import interocular, lip_opening
from deep_3drecon.track import FaceTrack

AXES = ("pitch", "yaw", "roll")
N_PARTS = 5  # of the clip, each judged by a map learnt on the others
RIDGE = 0.03  # on coefficients of deviation 1, as a share of the number of frames
MAX_LAG = 5  # frames at their rate


def load_ours(path):
    """FaceTrack from a .npz, or of a video."""
    if Path(path).suffix == ".npz":
        return FaceTrack.load(path)
    from data_process.face_tracks import track_video  # loads the landmarker, which a track does not need

    return track_video(path)


def compare(theirs, ours, offset=None):
    """CoeffTrack and our FaceTrack of the same clip -> dict.

    offset: frame of the video, counted at their rate, that their first row belongs to; None finds the best of -MAX_LAG to MAX_LAG
    by pose and lips. Ours are read off at the instants of their rows; frames without a face are left out.

    frames: how many were compared. offset: as given or found. pitch, yaw, roll: Pearson over time. difference: mean of theirs -
    ours in degrees by axis, jitter: deviation of it. opening: Pearson of our lip opening, over the distance of the eyes, with its
    held-out prediction from their expression. best: the single coefficient that follows it best, and how well.
    """
    angle, exp = (theirs.split()[name].astype(np.float64) for name in ("angle", "exp"))
    opening = lip_opening(ours.landmarks) / interocular(ours.landmarks)
    curves = np.concatenate([ours.parts()["angle"], opening[:, None]], 1).astype(np.float64)
    if offset is None:
        offset = max(range(-MAX_LAG, MAX_LAG + 1), key=lambda k: _fit(angle, exp, _read_off(curves, ours, theirs, k)))
    own, seen = _read_off(curves, ours, theirs, offset)
    if seen.sum() < 2 * N_PARTS:
        raise CoeffFileError(f"{seen.sum()} frames are common to both, at least {2 * N_PARTS} are needed")
    own, angle, exp = own[seen], angle[seen], exp[seen]
    gap, lip = np.degrees(angle - own[:, :3]), own[:, 3]
    single = np.nan_to_num([_pearson(column, lip) for column in exp.T])
    best = int(np.abs(single).argmax())
    return {
        "frames": int(seen.sum()),
        "offset": offset,
        **{name: _pearson(angle[:, k], own[:, k]) for k, name in enumerate(AXES)},
        "difference": gap.mean(0).tolist(),
        "jitter": gap.std(0).tolist(),
        "opening": _pearson(_held_out(exp, lip), lip),
        "best": (best, float(single[best])),
    }


def _read_off(curves, ours, theirs, offset):
    """Our curves (T, n) at the instants of their rows -> (N, n), and where that lies on frames with a face (N,)."""
    place = (np.arange(len(theirs)) + offset) * (ours.fps / theirs.fps)
    frames = np.arange(len(ours))
    seen = np.interp(place, frames, ours.valid.astype(np.float64), left=0, right=0) > 1 - 1e-6
    return np.stack([np.interp(place, frames, column) for column in curves.T], 1), seen & theirs.valid


def _fit(angle, exp, read_off):
    """How well pose and lips agree; lips move faster, so they settle the frame that pose leaves open."""
    own, seen = read_off
    if seen.sum() < 2 * N_PARTS:
        return -np.inf
    pose = [_pearson(angle[seen, k], own[seen, k]) for k in range(3)]
    lips = [abs(_pearson(column[seen], own[seen, 3])) for column in exp.T]
    return np.nansum(pose) / 3 + np.nanmax([0, *lips])


def _pearson(a, b):
    return float(np.corrcoef(a, b)[0, 1]) if min(np.std(a), np.std(b)) > 1e-9 else float("nan")


def _held_out(inputs, target):
    """Ridge prediction of target (T,) from inputs (T, n), each fifth of the clip from the four others."""
    out = np.empty(len(target))
    for part in np.array_split(np.arange(len(target)), N_PARTS):
        rest = np.setdiff1d(np.arange(len(target)), part)
        mean, spread = inputs[rest].mean(0), inputs[rest].std(0) + 1e-9
        x, middle = (inputs[rest] - mean) / spread, target[rest].mean()
        gram = x.T @ x + RIDGE * len(rest) * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, x.T @ (target[rest] - middle))
        out[part] = (inputs[part] - mean) / spread @ weight + middle
    return out


# ------------------------------------------------------------------------------------------------ the command


def pairs(coeff, videos):
    """Paths of coefficient files and of videos or tracks, folders allowed -> [(coefficients, video), ...] of equal names."""
    if len(coeff) == len(videos) == 1 and not (Path(coeff[0]).is_dir() and Path(videos[0]).is_dir()):
        return [(Path(coeff[0]), Path(videos[0]))]
    of_name = {path.stem: path for path in _files(videos, (*VIDEO_SUFFIXES, ".npz"))}
    found = [(path, of_name[path.stem]) for path in _files(coeff, (".mat", ".npy", ".pkl")) if path.stem in of_name]
    if not found:
        raise CoeffFileError("no coefficient file has the name of a video: give one of each, or rename them")
    return found


def _files(given, suffixes):
    for path in map(Path, given):
        if not path.exists():
            raise CoeffFileError(f"{path}: no such file or folder")
        yield from sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes) if path.is_dir() else [path]


def check(coeff, video, form=None, fps=None):
    """Paths of one pair -> what `compare` finds. fps: of the coefficients; the video's own where nothing tells it."""
    rate = fps
    if rate is None and form is None and Path(video).suffix != ".npz":
        rate = round(probe(video).fps, 2)
    return compare(read_coeff(coeff, form, rate), load_ours(video))


COLUMNS = ("clip", "frames", "first row at", *AXES, "theirs - ours, degrees", "lips", "best coefficient")


def table(rows):
    """{clip: what `compare` found} -> markdown; a last line has the medians."""
    lines = [list(COLUMNS), ["---", *["--:"] * (len(COLUMNS) - 1)]]
    for name, found in rows.items():
        gap = " / ".join(f"{m:+.1f} ± {s:.1f}" for m, s in zip(found["difference"], found["jitter"], strict=True))
        axes = [f"{found[axis]:.3f}" for axis in AXES]
        best = f"{found['best'][1]:+.3f} (exp {found['best'][0]})"
        lines.append([name, str(found["frames"]), f"{found['offset']:+d}", *axes, gap, f"{found['opening']:.3f}", best])
    if len(rows) > 1:
        middle = {key: float(np.median([found[key] for found in rows.values()])) for key in (*AXES, "opening")}
        lines.append(["median", "", "", *(f"{middle[a]:.3f}" for a in AXES), "", f"{middle['opening']:.3f}", ""])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.coeff_check",
        description="Compare coefficients of other systems with our track of their videos.",
    )
    parser.add_argument("--coeff", nargs="+", required=True, help="coefficient files, or folders of them")
    parser.add_argument("--video", nargs="+", required=True, help="videos or FaceTrack .npz, or folders of them")
    parser.add_argument("--form", choices=tuple(FORMS), help="of the coefficient files, where the content fits two")
    parser.add_argument("--fps", type=float, help="rate of the coefficients (default: that of the form or the video)")
    parser.add_argument("--output", help="JSON with all figures")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status: 0 all pairs were compared, 1 some could not be."""
    args, rows, failed = parse(argv), {}, 0
    try:
        chosen = pairs(args.coeff, args.video)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for coeff, video in chosen:
        try:
            rows[coeff.stem] = check(coeff, video, args.form, args.fps)
        except (ValueError, OSError) as error:
            print(f"error: {coeff.stem}: {error}", file=sys.stderr)
            failed += 1
    if rows:
        print(table(rows), end="")
        print(
            "first row at: frame of the video, at their rate; lips: our opening from all their expression, held-out fifths"
        )
    if args.output:
        write_aside(Path(args.output), json.dumps(rows, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
