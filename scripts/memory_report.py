"""Does the memory help memory_gan? Held-out frames of several people, drawn by models trained with and without it, as a table.

    python train_style.py --config configs/renderer_memory_gan.yaml data.lmdb=data/people run.output=data/runs/with model.dims.slots=512
    python train_style.py --config configs/renderer_memory_gan.yaml data.lmdb=data/people run.output=data/runs/without
    python -m scripts.memory_report --people data/people --with data/runs/with --without data/runs/without --output data/reports/memory

The n-th run of --with and of --without belong together: one seed, one schedule. Frames behind each person's learning span are drawn from
learning frames alone. Rows: `composite`, what the generator starts from; `with`, `without`, and `with - without`. Means over people of
the means over frames and runs, in brackets 95 % bootstrap intervals over people. `true identity` is `with` given what only training
knows, the identity feature of the very frame: what a memory that never errs would be worth. Writes lines.jsonl, one line for each
person, row and run, and sheet.png. Identity is the distance of dlib's descriptors, left out where it is not installed.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from data_process.pictures import STATE, Footage, PictureWindows, people_folders
from data_process.schema import StoreError
from deep_3drecon.track import FaceTrack
from models import checkpoint
from models.composite import Compositor, to_picture
from models.judges import JUDGES
from models.memory_gan import MemoryGan, blend
from models.metrics import bootstrap_interval
from scripts.evaluation.redrawn import measure, shots_of, sources_by_pose

COLUMNS = {
    "face_db": "face dB",
    "face_ssim": "face SSIM",
    "face_perceptual": "face perc.",
    "mouth_db": "mouth dB",
    "mouth_ssim": "mouth SSIM",
    "mouth_perceptual": "mouth perc.",
    "identity": "identity",
    "flicker_face": "flicker face",
}
ROWS = ("composite", "without", "with", "true identity")


class Stretch:
    """Held-out frames of one person: a Footage, which frames (N,), their sources, composites made once (N, 3, S, S)."""

    def __init__(self, folder, stats, n_frames):
        self.person = person = Footage.load(folder, stats["size"], stats["heads"])
        track = FaceTrack.load(folder / "track.npz")
        held = np.arange(person.learning[1], len(person))
        self.held = held[person.valid[held]][:n_frames]
        if len(self.held) < 3:
            raise StoreError(f"{folder}: {len(self.held)} frames lie behind the learning span: hold some out")
        learnt, compositor, made = (
            PictureWindows([person]).learnt[0],
            Compositor(person.model, person.texture, stats["size"]),
            [],
        )
        self.shots = shots_of(person, self.held)
        for shot in self.shots:
            ready = {}
            for t, (k, _, _) in zip(shot, sources_by_pose(track, person.model, learnt, shot), strict=True):
                if k not in ready:
                    ready[k] = compositor.source(person.pictures[k], *(person.state[n][k] for n in (*STATE, "affine")))
                state = (person.state[name][[t]] for name in (*STATE, "gamma", "affine"))
                made.append(blend(compositor.make([ready[k]], *state)))
        self.laid = torch.cat(made)
        self.real, self.points = person.pictures[self.held], person.state["points"][self.held]

    def film(self, model, told=False):
        """(N, S, S, 3) uint8 as a model draws them; told: it is given the identity feature of each frame."""
        ends = np.cumsum([len(shot) for shot in self.shots])
        pictures = []
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            identity = model.eyes.identity(self.real[start:end], self.points[start:end]) if told else None
            pictures += [to_picture(picture) for picture, _ in model.draw(self.laid[start:end], identity=identity)]
        return np.stack(pictures)

    def composites(self):
        """(N, S, S, 3) uint8."""
        return np.stack([to_picture(picture) for picture in self.laid])


def values_of(real, made, points):
    """`redrawn.measure` and the distance of identities."""
    judge = JUDGES["identity_dlib"]()
    found = measure(real, made, points)
    return found | {
        "identity": float("nan") if judge.missing() else float(np.nanmean(judge.distance(real, made, points, points)))
    }


def report(people, runs, output, n_frames):
    """Yield lines {"person", "row", "run", metrics}; writes sheet.png: real, then the rows of the first pair of runs."""
    models = {row: [load(run) for run in paths] for row, paths in runs.items()}
    stats, sheet = models["with"][0].stats, []
    for folder in tqdm(people, unit="person", disable=None):
        stretch = Stretch(folder, stats, n_frames)
        films = {("composite", 0): stretch.composites()}
        for row, loaded in models.items():
            films |= {(row, k): stretch.film(model) for k, model in enumerate(loaded)}
        films |= {("true identity", k): stretch.film(model, told=True) for k, model in enumerate(models["with"])}
        for (row, k), film in films.items():
            yield {"person": folder.name, "row": row, "run": k, "frames": len(film)} | values_of(
                stretch.real, film, stretch.points
            )
        middle = len(stretch.held) // 2
        sheet.append(np.concatenate([stretch.real[middle], *(films[row, 0][middle] for row in ROWS)], 1))
    if not cv2.imwrite(str(output / "sheet.png"), np.concatenate(sheet)[..., ::-1]):
        raise OSError(f"{output / 'sheet.png'}: cannot be written")


def load(run):
    """A memory_gan of a run folder."""
    model = checkpoint.load(run)
    if not isinstance(model, MemoryGan):
        raise checkpoint.CheckpointError(f"{run}: holds a {type(model).__name__}, a memory_gan is needed")
    return model


def table(lines):
    """Markdown of the means over people."""
    people = sorted({line["person"] for line in lines})

    def of(row, metric):
        return np.array([np.mean([x[metric] for x in lines if (x["person"], x["row"]) == (p, row)]) for p in people])

    out = ["| row | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in ROWS:
        out.append(f"| {row} | " + " | ".join(cell(of(row, metric)) for metric in COLUMNS) + " |")
    gains = " | ".join(cell(of("with", metric) - of("without", metric)) for metric in COLUMNS)
    return "\n".join([*out, f"| with - without | {gains} |", "", f"{len(people)} people."])


def cell(values):
    """ "mean [low, high]" over people."""
    low, high = bootstrap_interval(values)
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(values).all() else "–"


def main(argv=None):
    """Exit status: 0 written, 1 refused with a reason."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.memory_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--people", required=True, type=Path, help="person folder, or folder of such, with held-out ends"
    )
    parser.add_argument("--with", dest="remembering", required=True, nargs="+", type=Path, help="runs with the memory")
    parser.add_argument("--without", required=True, nargs="+", type=Path, help="the same runs without")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--frames", type=int, default=50, help="held-out frames of each person at most (default 50)")
    args = parser.parse_args(argv)
    if len(args.remembering) != len(args.without):
        parser.error("as many runs are needed with as without the memory")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        runs = {"with": args.remembering, "without": args.without}
        lines = list(report(people_folders(args.people), runs, args.output, args.frames))
        (args.output / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        print(table(lines))
    except (StoreError, checkpoint.CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
