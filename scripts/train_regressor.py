"""Train the face regressor `deep_3drecon.open_regressor`, or that of clips, `clip_regressor`, on made faces, measure it, release it.

    python -m scripts.train_regressor render --data data/runs/faces --people 480
    python -m scripts.train_regressor render --data data/runs/faces --first 480 --people 640 --most_yaw 85
    python -m scripts.train_regressor train  --data data/runs/faces --output data/runs/open_regressor
    python -m scripts.train_regressor people --data data/runs/faces
    python -m scripts.train_regressor clips  --videos FOLDER
    python -m scripts.train_regressor gaps   --videos FOLDER
    python -m scripts.train_regressor losses
    python -m scripts.train_regressor release --data data/runs/faces --weights data/runs/open_regressor

    python -m scripts.train_regressor render  --what clip --data data/runs/clips --people 700
    python -m scripts.train_regressor train   --what clip --data data/runs/clips --output data/runs/clip_regressor --batch 72
    python -m scripts.train_regressor people  --what clip --data data/runs/clips

`render` makes the pictures, about 1.2 s a person on one core (a clip: 2.2 s); `train` needs about 15 minutes of one core and writes the
regressor. Both go on where they were stopped, and --minutes stops them. The others print Markdown tables: errors on made
people whom the training has not seen; on clips, against the fit of their landmarks; in gaps cut into clips; and
where the landmarker loses the face of a made person by itself.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_process.cutting import load_landmarks
from data_process.face_tracks import landmarker
from data_process.landmarks import NoFaceError
from data_process.made_clip_batches import ClipData
from data_process.made_crop_batches import FaceData
from data_process.made_crops_clips import make_crop_clip
from data_process.made_faces import make_faces
from data_process.video import VIDEO_SUFFIXES, VideoError, read_frames
from deep_3drecon.open_regressor import RELEASED, OpenRegressor
from deep_3drecon.regressor_files import RegressorError
from deep_3drecon.track import FPS
from models.checkpoint import git_commit
from scripts.evaluation import clip_regressor, lost_films
from scripts.evaluation import regressor as measure

DATA = {"face": FaceData, "clip": ClipData}


def render(args):
    """Pictures of every person who is not there yet."""
    folder, began = Path(args.data), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(args.first, args.people), unit="person", desc="render"):
        if time.monotonic() - began > 60 * args.minutes:
            print(f"{number} of {args.people} people: run again to go on")
            return
        path = folder / f"{number:05d}.npz"
        if args.what == "face" and not path.exists():
            make_faces(number, args.seed, args.most_yaw).save(path)
        if args.what == "clip" and not all(path.with_suffix(end).exists() for end in (".npy", ".mouth.npy")):
            clip = make_crop_clip(number, args.seed + 1, args.size, args.pace)
            if clip is not None:
                clip.save(path.with_suffix(""))


def train(args):
    """Go on from the last state in the output folder, if any; at the end write the regressor there."""
    folder, began, worked = Path(args.output), time.monotonic(), time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    data, state_path = DATA[args.what](args.data, "train"), folder / "state.pt"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng((args.seed, 0))
    network = data.regressor.load(args.start).network if args.start else data.new_network(rng, args.width)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps, pct_start=0.1)
    step, seconds = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step, seconds = state["step"], state["seconds"]
    cost, model = data.cost(network), network.train()
    model.half = True
    bar = tqdm(total=args.steps, initial=step, unit="step", desc="train")
    while step < args.steps and time.monotonic() - began < 60 * args.minutes:
        for batch in data.batches((args.seed, 1, step), args.batch):
            costs = cost(data.run(model, batch), batch)
            value = data.whole(costs)
            if not torch.isfinite(value):
                raise RegressorError(f"step {step}: the loss is not finite ({costs}); use a smaller --lr")
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            step += 1
            if step < args.steps:
                schedule.step()
            bar.update()
            if step % 128 == 0 or step == args.steps:
                print(f"step {step}: " + ", ".join(f"{name} {v.item():.3f}" for name, v in costs.items()), flush=True)
            if step == args.steps:
                break
    state = {"network": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    state |= {"step": step, "seconds": seconds + time.process_time() - worked}
    torch.save(state, state_path.with_suffix(".part"))
    os.replace(state_path.with_suffix(".part"), state_path)
    if step < args.steps:
        print(f"{step} of {args.steps} steps: run again to go on")
    model.half = False
    facts = {name: getattr(args, name) for name in ("seed", "steps", "batch", "lr")}
    facts |= {
        "trained_on": f"{data.n_pictures} pictures of {data.n_people} made people",
        "core_minutes": round(state["seconds"] / 60, 1),
    }
    data.regressor(model.eval()).save(folder, steps_done=step, **facts)


def people(args):
    """Errors on the people kept for testing, clean pictures and hard ones, and how long a guess takes; of clips beside the fit's."""
    data = DATA[args.what](args.data, "test")
    regressor = data.regressor.load(args.weights)
    if args.what == "clip":
        print_rows(clip_regressor.people_rows(regressor, data), f"{data.n_people} people")
        return
    rows = {
        name: measure.people_row(regressor, data, hard, args.crops) for name, hard in (("clean", 0.0), ("hard", 1.0))
    }
    print_rows({name: row for name, (row, _) in rows.items()}, "")
    print()
    print_rows({name: channels for name, (_, channels) in rows.items()}, "correlation")
    print("\n" + ", ".join(f"{name} {ms:.2f} ms" for name, ms in measure.speed(regressor).items()))


def release(args):
    """The weights with their figures on test people and the commit, in the place of the released ones."""
    data = DATA[args.what](args.data, "test")
    regressor = data.regressor.load(args.weights)
    if args.what == "clip":
        figures = clip_regressor.people_rows(regressor, data)
    else:
        hardness = {"clean": 0.0, "hard": 1.0}
        figures = {name: measure.people_row(regressor, data, hard, args.crops)[0] for name, hard in hardness.items()}
    figures = {row: {key: round(float(v), 3) for key, v in values.items()} for row, values in figures.items()}
    folder = RELEASED.parent / f"{'open' if args.what == 'face' else 'clip'}_regressor"
    regressor.save(folder, git_commit=git_commit(), test_people=data.n_people, figures=figures)
    print(folder)


def clips(args):
    """Guesses against the fit of the landmarks, clip by clip, and the median."""
    regressor, rows = OpenRegressor.load(args.weights), {}
    for path, landmarks in read_landmarks(args):
        frames = read_frames(path, fps=FPS, max_frames=len(landmarks))
        rows[path.stem] = measure.clip_row(regressor, landmarks, frames)
    rows["median"] = {name: np.nanmedian([row[name] for row in rows.values()]) for name in next(iter(rows.values()))}
    print_rows(rows, "clip")


def gaps(args):
    """Errors in gaps that were cut into clips, by length of the gap."""
    regressor, found = OpenRegressor.load(args.weights), []
    for path, landmarks in read_landmarks(args):
        found += measure.gap_errors(
            regressor, landmarks, partial(read_frames, path, fps=FPS, max_frames=len(landmarks))
        )
    rows = {}
    for length in sorted({gap["length"] for gap in found}):
        here = [gap for gap in found if gap["length"] == length]
        row = {"gaps": len(here)}
        for way in ("line", "regressor"):
            row |= {
                f"{way}: {unit}": np.mean([gap[way][unit] for gap in here]) for unit in ("degrees", "lip mm", "exp")
            }
            pairs = [np.concatenate(values) for values in zip(*(gap[way]["openings"] for gap in here), strict=True)]
            row[f"{way}: lip r"] = measure.correlation(*pairs)
        rows[length] = row
    print_rows(rows, "frames")


def losses(args):
    """Errors where the landmarker loses made people, by what is wrong with the picture."""
    regressor = OpenRegressor.load(args.weights)
    rows = {kind: lost_films.lost_rows(regressor, kind, range(args.people)) for kind in tqdm(lost_films.KINDS)}
    print_rows(rows, "film")


def read_landmarks(args):
    """(path, LandmarkTrack) of the videos of a folder, at most --frames of each; <name>.landmarks.npz is used if there."""
    paths = sorted(p for p in Path(args.videos).iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise VideoError(f"{args.videos}: no video in it, known are {', '.join(sorted(VIDEO_SUFFIXES))}")
    for path in tqdm(paths[:: args.every], unit="clip"):
        stored = path.with_suffix(".landmarks.npz")
        try:
            if stored.is_file():
                found = first(load_landmarks(stored), args.frames)
            else:
                found = landmarker().track(read_frames(path, fps=FPS, max_frames=args.frames))
        except (VideoError, NoFaceError) as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        yield path, found


def first(track, n):
    """The first n frames of a LandmarkTrack."""
    arrays = {name: value[:n] for name, value in vars(track).items() if isinstance(value, np.ndarray)}
    return replace(track, **arrays)


def print_rows(rows, corner):
    """Markdown table of {row: {column: number}}."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"| {' | '.join([corner, *columns])} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in rows.items():
        cells = [f"{row[c]:.3g}" if c in row else "" for c in columns]
        print(f"| {' | '.join([str(name), *cells])} |", flush=True)


COMMANDS = {c.__name__: c for c in (render, train, people, release, clips, gaps, losses)}


def main(argv=None):
    """Exit status: 0, or 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_regressor", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    rendering = commands.add_parser("render", help="make pictures of made faces")
    rendering.add_argument("--people", type=int, default=480, help="number after the last one (default 480)")
    rendering.add_argument("--first", type=int, default=0, help="number of the first one (default 0)")
    rendering.add_argument("--most_yaw", type=float, default=65.0, help="degrees that heads turn (default 65)")
    rendering.add_argument("--size", type=int, default=256, help="pixels along a side of films for clips (default 256)")
    rendering.add_argument(
        "--pace",
        type=float,
        default=8.0,
        help="of single channels of the mouth in clips; 1 is that of reports (default 8)",
    )
    training = commands.add_parser("train", help="make weights")
    training.add_argument("--output", required=True, help="folder for the regressor and the state of its training")
    for name, value in {"steps": 3584, "batch": 64, "width": 24}.items():
        training.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    training.add_argument("--start", help="folder of a regressor to begin with")
    training.add_argument("--lr", type=float, default=2e-3, help="largest step size (default 0.002)")
    testing = commands.add_parser("people", help="errors on made people kept for testing")
    releasing = commands.add_parser("release", help="measure weights and put them in the place of the released ones")
    for command in (testing, releasing):
        command.add_argument("--crops", type=int, default=1500, help="default 1500")
        command.add_argument("--data", required=True, help="folder of the pictures")
    watching = commands.add_parser("clips", help="guesses against the fit of landmarks, on videos")
    cutting = commands.add_parser("gaps", help="errors in gaps cut into videos")
    for command in (watching, cutting):
        command.add_argument("--videos", required=True, help="folder of videos, each with one face")
        command.add_argument("--frames", type=int, default=300, help="of each video, at most (default 300)")
        command.add_argument("--every", type=int, default=1, help="take every n-th video (default 1)")
    losing = commands.add_parser("losses", help="errors where the landmarker loses made people")
    losing.add_argument("--people", type=int, default=3, help="films of each kind (default 3)")
    for command in (rendering, training, testing, releasing):
        command.add_argument("--what", choices=DATA, default="face", help="regressor of faces (default) or of clips")
    for command in (testing, releasing, watching, cutting, losing):
        command.add_argument("--weights", help="folder of the regressor (default: the released one)")
    for command in (rendering, training):
        command.add_argument("--data", required=True, help="folder of the pictures, 2.5 MB a person (clips: 12 MB)")
        command.add_argument("--seed", type=int, default=0, help="default 0")
        command.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        COMMANDS[args.command](args)
    except (RegressorError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
