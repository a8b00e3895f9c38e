"""Does a style tell who speaks? Every clip of a store is looked for among the speakers, by its other half and by everybody's other clips.

    python -m scripts.style_retrieval --lmdb data/lmdb/mine [--min_seconds 5] [--query_seconds 10]

Numbers of the code that repeat count more; how well they repeat is measured on the other speakers only. Prints the share of speakers
whose halves of a clip find each other, and R@1 and R@5 of clips (joined until they last --query_seconds) among all speakers' means
over the other clips.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from data_process.schema import StoreError
from data_process.store import Store
from deep_3drecon.track import FPS
from models.style_metrics import disjoint_retrieval, split_half_retrieval
from scripts.evaluation.codes import half_styles, whole_styles


def main(argv=None):
    """Exit status: 0 done, 1 the store cannot tell."""
    parser = argparse.ArgumentParser(prog="python -m scripts.style_retrieval", description=__doc__.split("\n")[0])
    parser.add_argument("--lmdb", required=True, type=Path)
    parser.add_argument(
        "--min_seconds", type=float, default=1.0, help="shorter clips are left out (default %(default)s)"
    )
    parser.add_argument(
        "--query_seconds", type=float, default=10.0, help="clips are joined to this (default %(default)s)"
    )
    args = parser.parse_args(argv)
    try:
        report(Store(args.lmdb), args.min_seconds * FPS, args.query_seconds * FPS)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def report(store, min_frames, query_frames):
    """Print what is found in a store."""
    first, second, speakers = half_styles(store, min_frames)
    if len(set(speakers)) < 3:
        raise StoreError(
            f"{store.path}: {len(set(speakers))} speakers with such clips, at least 3 are needed to tell people apart"
        )
    share, by_speaker = split_half_retrieval(first, second, speakers)
    missed = [speaker for speaker, found in by_speaker.items() if found < 1]
    print(
        f"{len(speakers)} clips of {len(by_speaker)} speakers: {100 * share:.1f} % find their other half; missed at least once: {missed}"
    )
    codes, speakers, frames = whole_styles(store, min_frames)
    several = [name for name in set(speakers) if speakers.count(name) > 1]
    if len(several) < 4:  # weights of one speaker are measured on two or more others
        print("too few speakers with several clips to look for a clip among the others")
        return
    for title, wanted in (("single clips", 0), (f"clips joined to {query_frames / FPS:g} s", query_frames)):
        found = disjoint_retrieval(codes, speakers, frames, wanted)
        print(
            f"{title}: R@1 {found['r1']:.3f}, R@5 {found['r5']:.3f} of {found['queries']} queries (chance {found['chance_r1']:.3f}, "
            f"{found['skipped_queries']} skipped), median length {np.median(frames) / FPS:.1f} s"
        )


if __name__ == "__main__":
    sys.exit(main())
