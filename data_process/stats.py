"""Means and deviations of the train split: what scales a network's inputs and outputs, and the z-scores of a style.

    python -m data_process.stats --lmdb data/grid.lmdb

writes stats.json into the LMDB folder. One clip is in memory at a time.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process import schema
from data_process.outputs import writable_file, write_aside
from data_process.schema import StoreError
from data_process.store import Store
from deep_3drecon.track import FPS, style_statistics


class Moments:
    """Mean and deviation (ddof 0) of rows that come in blocks (N, C); Chan's update, exact to rounding in any order."""

    def __init__(self):
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, rows):
        """Take a block of rows (N, C)."""
        rows = np.asarray(rows, np.float64)
        if len(rows) == 0:
            return
        mean, n = rows.mean(0), self.n + len(rows)
        shift = mean - self.mean
        self.squares = self.squares + ((rows - mean) ** 2).sum(0) + shift**2 * (self.n * len(rows) / n)
        self.mean = self.mean + shift * (len(rows) / n)
        self.n = n

    @property
    def std(self):
        """(C,) deviation."""
        return np.sqrt(self.squares / max(self.n, 1))

    def values(self):
        """{"mean": [...], "std": [...]} for JSON."""
        return {"mean": np.atleast_1d(self.mean).tolist(), "std": np.atleast_1d(self.std).tolist()}


def compute(store, split="train", progress=False):
    """Statistics of one split of a Store -> dict in the form of stats.json.

    features: per audio feature, those that were added too, over all rows. exp: over frames with a face. pose: Euler
    angle (rad) and translation (dm), over frames with a face, each clip's mean removed. style: raw style vectors over
    clips, parts in the order of STYLE_PARTS. A deviation may be 0 (a blank column, a single clip): whoever divides by it sets the floor.
    """
    clips = store.clips(split)
    if not clips:
        raise StoreError(f"{store.path}: {split} holds no clip: nothing to measure")
    features = {name: Moments() for name in store.features}
    exp, pose, style = Moments(), Moments(), Moments()
    for index in tqdm(range(len(clips)), unit="clip", disable=not progress):
        for name, moments in features.items():
            moments.add(store.array(split, name, index))
        track = store.track(split, index)
        parts = track.parts()
        exp.add(parts["exp"][track.valid])
        moved = np.concatenate([parts["angle"], parts["trans"]], 1)[track.valid].astype(np.float64)
        pose.add(moved - moved.mean(0))
        statistics = style_statistics(parts["exp"], parts["angle"], parts["trans"], track.fps)
        style.add(schema.style_vector(statistics)[None])
    return {
        "face_model": store.meta["face_model"],
        "face_model_hash": store.meta["face_model_hash"],
        "fps": FPS,
        "split": split,
        "n_clips": len(clips),
        "n_frames": exp.n,
        "features": {name: moments.values() for name, moments in features.items()},
        "exp": exp.values(),
        "pose": pose.values(),
        "style": {"parts": schema.style_sizes(statistics), **style.values()},
    }


def main(argv=None):
    """Exit status: 0 written, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.stats", description="Measure the train split of an LMDB store."
    )
    parser.add_argument("--lmdb", required=True, help="store made by data_process.build_lmdb")
    parser.add_argument("--output", help="JSON file to write (default: stats.json in the LMDB folder)")
    args = parser.parse_args(argv)
    try:
        store = Store(args.lmdb)
        output = writable_file(args.output or Path(args.lmdb, "stats.json"))
        stats = compute(store, progress=True)
        write_aside(output, json.dumps(stats) + "\n")
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {stats['n_clips']} clips, {stats['n_frames']} frames with a face")
    return 0


if __name__ == "__main__":
    sys.exit(main())
