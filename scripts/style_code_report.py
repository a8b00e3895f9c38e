"""The learnt style code beside the statistics: who is found by it, and does it help the lips.

    python -m scripts.style_code_report --checkpoint data/runs/learnt [--plain data/runs/plain] --lmdb data/lmdb/world [--strangers LMDB]

Retrieval: every clip of the test split, and every stretch of 2 s of it, is looked for among the speakers' means over the train split,
whose speakers the encoder knows; of --strangers, a store of people
who were never trained on, the first half of every clip among the second halves. Lips: test clips spoken in the speaker's style, measured
on the train split, by the checkpoint with its code, the same without, and --plain, a run that never had one.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from data_process.dataset import ClipReader
from data_process.schema import StoreError
from data_process.store import Store
from models import checkpoint, metrics
from models.checkpoint import CheckpointError
from models.motion_geometry import MotionGeometry
from models.style import Style
from models.style_encoder import MIN_FRAMES
from models.style_metrics import retrieval, speaker_weight


def clip_styles(method, store, split, parts=1):
    """[(speaker, [Style of each of `parts` equal parts])] of the clips of a split that are long enough."""
    found = []
    for k, clip in enumerate(store.clips(split) if split in store.meta["splits"] else []):
        track = store.track(split, k)
        size = len(track) // parts
        pieces = [track.select(slice(n * size, (n + 1) * size)) for n in range(parts)]
        if size >= MIN_FRAMES and all(piece.valid.any() for piece in pieces):
            found.append((clip["speaker"], [method.measured_style(piece, clip["name"]) for piece in pieces]))
    return found


def stretch_styles(method, store, split):
    """[(speaker, Style)] of the stretches of MIN_FRAMES frames of the clips of a split."""
    found = []
    for k, clip in enumerate(store.clips(split)):
        track = store.track(split, k)
        for start in range(0, len(track) - MIN_FRAMES + 1, MIN_FRAMES):
            piece = track.select(slice(start, start + MIN_FRAMES))
            if piece.valid.any():
                found.append((clip["speaker"], method.measured_style(piece, clip["name"])))
    return found


def codes(method, styles):
    """{kind: (N, S)} of styles: statistics as the network gets them, the learnt code, and both with equal say."""
    with torch.no_grad():
        told = [method.style_tensors(style) | {"learnt": torch.zeros(1, len(style.learnt))} for style in styles]
        statistics = np.array([method.style_code(parts)[0, : -len(styles[0].learnt)].numpy() for parts in told])
    learnt = np.array([style.learnt for style in styles])
    both = np.concatenate([statistics / statistics.shape[1] ** 0.5, learnt / learnt.shape[1] ** 0.5], 1)
    return {"statistics": statistics, "learnt": learnt, "both": both}


def print_retrieval(title, query, gallery, weigh):
    """R@1 and R@5 of [(speaker, Style)] among the speakers' means of another such list, by each kind of code.

    weigh: also with each number weighed by how well it tells the gallery's speakers apart.
    """
    (asked, asked_codes), (known, known_codes) = query, gallery
    for kind in asked_codes:
        ways = {"": None} | ({", weighed": speaker_weight(known_codes[kind], known)} if weigh else {})
        for way, weight in ways.items():
            found = retrieval(asked_codes[kind], asked, known_codes[kind], known, weight)
            print(
                f"{title}: {kind + way:22} R@1 {found['r1']:.3f}  R@5 {found['r5']:.3f}  "
                f"({found['queries']} queries, chance {found['chance_r1']:.3f})"
            )


def lips(method, styles, reader, geometry):
    """(mean lip vertex error mm, mean correlation of the lips' opening) over the clips of a reader, in {speaker: Style}."""
    found = []
    for k in range(len(reader)):
        clip, speaker = reader[k], reader.clips[k]["speaker"]
        if speaker not in styles:
            continue
        made = method.generate(clip, styles[speaker], len(clip["exp"]), blinks=False)["exp"]
        places = [geometry.vertices("lips", clip["id"], exp) for exp in (made, clip["exp"])]
        opening = [geometry.curves(clip["id"], exp)["opening"] for exp in (made, clip["exp"])]
        error = metrics.lip_vertex_error(*places, valid=clip["valid"])
        found.append((error, metrics.correlation(*(x[clip["valid"]] for x in opening))))
    return np.nanmean(found, 0)


def report(method, plain, path, strangers):
    """Print everything for one store."""
    store = Store(path)
    train, test = (clip_styles(method, store, split) for split in ("train", "test"))
    train, test = ([(who, parts[0]) for who, parts in found] for found in (train, test))
    if not train or not test:
        raise StoreError(f"{path}: no clips of {MIN_FRAMES} frames in train and test")
    whole, short, known = (
        ([who for who, _ in found], codes(method, [style for _, style in found]))
        for found in (test, stretch_styles(method, store, "test"), train)
    )
    if len(set(known[0])) > 1:
        print_retrieval(f"{Path(path).name}, clips", whole, known, weigh=True)
        print_retrieval(f"{Path(path).name}, 2 s", short, known, weigh=True)
    means = {who: Style.average([s for name, s in train if name == who]) for who in dict.fromkeys(known[0])}
    reader, geometry = ClipReader(path, "test"), MotionGeometry(method.face)
    silent = {who: Style.average([style]) for who, style in means.items()}
    for style in silent.values():
        style.learnt = None
    rows = {"with the code": (method, means), "without it": (method, silent)}
    for title, (network, styles) in (rows | ({"never had one": (plain, silent)} if plain else {})).items():
        error, correlation = lips(network, styles, reader, geometry)
        print(f"{Path(path).name}: lips {title:14} LVE {error:.3f} mm  correlation {correlation:.3f}")
    if strangers:
        other = Store(strangers)
        found = [pair for split in ("train", "val", "test") for pair in clip_styles(method, other, split, 2)]
        who = [name for name, _ in found]
        halves = [(who, codes(method, [parts[n] for _, parts in found])) for n in range(2)]
        print_retrieval(Path(strangers).name, *halves, weigh=False)


def main(argv=None):
    """Exit status: 0 done, 1 refused with a reason."""
    parser = argparse.ArgumentParser(prog="python -m scripts.style_code_report", description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True, type=Path, help="run of configs/style_avatar_learnt.yaml")
    parser.add_argument("--plain", type=Path, help="the same without a learnt code")
    parser.add_argument("--lmdb", required=True, type=Path)
    parser.add_argument("--strangers", type=Path, help="store of people who were never trained on")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        method = checkpoint.load(args.checkpoint)
        if method.encoder is None:
            raise CheckpointError(f"{args.checkpoint}: has no clip encoder: train configs/style_avatar_learnt.yaml")
        report(method, checkpoint.load(args.plain) if args.plain else None, args.lmdb, args.strangers)
    except (CheckpointError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
