"""Styles on the command line: measure, blend, scale, average, list, compare. Styles are JSON files; released ones go by name.

    python -m scripts.styles measure CLIP [CLIP ...] --output her.json       # video or face track (.npz); several clips are averaged
    python -m scripts.styles blend grid_s1 her.json --weights 0.7 0.3 --output between.json
    python -m scripts.styles scale her.json --strength 1.4 [--from_mean] --output livelier.json
    python -m scripts.styles average a.json b.json c.json --output people.json
    python -m scripts.styles list [FOLDER]
    python -m scripts.styles compare her.json grid_s1 lively

inference.py takes the results with --style_clip.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from data_process.face_tracks import track_video
from data_process.landmarks import NoFaceError
from data_process.video import VideoError
from deep_3drecon.assets import AssetError
from deep_3drecon.fit import FitError
from deep_3drecon.track import FaceTrack, TrackError
from models import checkpoint
from models.checkpoint import CheckpointError
from models.style import STYLE_PARTS, Style, StyleError

DEFAULT = Path(__file__).parents[1] / "data" / "checkpoints" / "default"
ERRORS = (AssetError, CheckpointError, FitError, NoFaceError, OSError, StyleError, TrackError, VideoError)
# what a code says in a few words: parts of a style as shares of the corpus mean
WORDS = {"expression": "std_exp", "speed": "std_exp_change", "head": "std_pose", "head speed": "std_pose_change"}


def load(text, folder):
    """Style of a file, or of a name among the released ones of a checkpoint folder."""
    path = Path(text)
    if path.suffix == ".json" and path.is_file():
        return Style.load(path)
    released = {p.stem: p for p in sorted((folder / "styles").glob("*.json"))}
    if text not in released:
        raise StyleError(f"{text}: no style file and no released style; released are {', '.join(released) or 'none'}")
    return Style.load(released[text])


def corpus(folder):
    """(mean Style, {part: deviation (n,)}) of the corpus that a checkpoint was trained on."""
    content = checkpoint.read(folder)
    try:
        about = content["stats"]["style"]
        fields = {"source": "corpus mean", "face_model": content["face_model"]}
        deviation = Style.from_vector(about["std"], about["parts"], **fields)
        return Style.from_vector(about["mean"], about["parts"], **fields), deviation.parts
    except KeyError as error:
        raise StyleError(f"{folder}: its checkpoint holds no statistics of styles ({error})") from error


def measure(args):
    """Style of clips, by the checkpoint's method, which may add a learnt code."""
    method = checkpoint.load_motion(args.checkpoint_dir)
    tracks = [FaceTrack.load(p) if p.suffix == ".npz" else track_video(p) for p in args.clips]
    styles = [method.measured_style(track, path.name) for track, path in zip(tracks, args.clips, strict=True)]
    return styles[0] if len(styles) == 1 else Style.average(styles)


def blend(args):
    styles = [load(text, args.checkpoint_dir) for text in args.styles]
    if len(args.weights) != len(styles):
        raise StyleError(f"{len(args.weights)} weights came for {len(styles)} styles: one for each is needed")
    return Style.blend(styles, args.weights)


def scale(args):
    return load(args.style, args.checkpoint_dir).scaled(
        args.strength, corpus(args.checkpoint_dir)[0] if args.from_mean else None
    )


def average(args):
    return Style.average([load(text, args.checkpoint_dir) for text in args.styles])


def summary(style, mean):
    """{word: amount as a share of the corpus mean} of a style."""
    ratios = {}
    for word, part in WORDS.items():
        usual = np.linalg.norm(mean.parts[part])
        ratios[word] = float(np.linalg.norm(style.parts[part]) / usual) if usual else float("nan")
    return ratios | {"blinks a minute": 60 * style.blinks.rate_hz}


def list_styles(args):
    """Table of the styles in a folder, amounts as shares of the corpus mean."""
    folder = args.folder or args.checkpoint_dir / "styles"
    mean, _ = corpus(args.checkpoint_dir)
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise StyleError(f"{folder}: no style files (*.json) here")
    rows = {path.stem: (summary(style, mean), style.source) for path in paths for style in [Style.load(path)]}
    if args.json:
        print(json.dumps({name: amounts | {"source": source} for name, (amounts, source) in rows.items()}, indent=1))
        return
    print(f"{'style':16}" + "".join(f"{word:>16}" for word in next(iter(rows.values()))[0]) + "  source")
    for name, (amounts, source) in rows.items():
        print(f"{name:16}" + "".join(f"{value:16.2f}" for value in amounts.values()) + f"  {source}")


def distances(a, b, deviation):
    """{part: RMS difference of two styles in deviations of the corpus}, and "all" of the numbers together."""
    steps = {p: (a.parts[p] - b.parts[p]) / np.maximum(deviation[p], 1e-4) for p in STYLE_PARTS}
    steps["all"] = np.concatenate(list(steps.values()))
    return {name: float(np.sqrt(np.mean(x**2))) for name, x in steps.items()}


def compare(args):
    """Distances of the first style to each of the others."""
    first, *others = [load(text, args.checkpoint_dir) for text in args.styles]
    if not others:
        raise StyleError("one style came: two or more are needed to compare")
    _, deviation = corpus(args.checkpoint_dir)
    rows = {text: distances(first, s, deviation) for text, s in zip(args.styles[1:], others, strict=True)}
    if args.json:
        print(json.dumps({args.styles[0]: rows}, indent=1))
        return
    print(f"{'from ' + args.styles[0] + ' to':24}" + "".join(f"{name:>16}" for name in (*STYLE_PARTS, "all")))
    for text, found in rows.items():
        print(f"{text:24}" + "".join(f"{value:16.2f}" for value in found.values()))


def parse(argv=None):
    parser = argparse.ArgumentParser(prog="python -m scripts.styles", description=__doc__.split("\n")[0])
    whose = {"type": Path, "help": "whose released styles and corpus mean (default data/checkpoints/default)"}
    parser.add_argument("--checkpoint_dir", default=DEFAULT, **whose)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, help):
        own = commands.add_parser(name, help=help)
        own.set_defaults(run=function)
        own.add_argument("--checkpoint_dir", default=argparse.SUPPRESS, **whose)  # may stand after the command too
        return own

    own = command("measure", measure, "style of a clip, or the mean of several")
    own.add_argument("clips", nargs="+", type=Path)
    own.add_argument("--output", required=True, type=Path)
    own = command("blend", blend, "weighted sum")
    own.add_argument("styles", nargs="+")
    own.add_argument("--weights", required=True, nargs="+", type=float)
    own.add_argument("--output", required=True, type=Path)
    own = command("scale", scale, "livelier or calmer")
    own.add_argument("style")
    own.add_argument("--strength", required=True, type=float, help="1 leaves it, 0 to 2 are sensible")
    own.add_argument("--from_mean", action="store_true", help="away from the corpus mean, not from rest")
    own.add_argument("--output", required=True, type=Path)
    own = command("average", average, "mean of several")
    own.add_argument("styles", nargs="+")
    own.add_argument("--output", required=True, type=Path)
    own = command("list", list_styles, "what styles there are")
    own.add_argument("folder", nargs="?", type=Path)
    own.add_argument("--json", action="store_true")
    own = command("compare", compare, "how far styles are from the first one, in deviations of the corpus")
    own.add_argument("styles", nargs="+")
    own.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status: 0 done, 1 refused with a reason."""
    args = parse(argv)
    try:
        made = args.run(args)
        if made is not None:
            made.save(args.output)
            print(f"{args.output}: {made.source}")
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
