"""Stores -> one store, records copied as they are: corpora joined, split anew, folds made; nothing is computed again.

    python -m data_process.merge_lmdb --inputs data/grid.lmdb data/clips.lmdb --output data/fold0.lmdb --fold 0 4

Features that were added to all inputs in the same way go along; others are left behind, and named.
Clips are taken from every split of the inputs, in order of their names, and keep their split unless another is asked for.
A clip's name may come once only; a speaker of the same name in two stores is taken for the same person. A stopped merge goes
on with the same command. Then: data_process.stats.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from tqdm import tqdm

from data_process import schema
from data_process.build_lmdb import summary
from data_process.schema import StoreError
from data_process.splits import read_split_list, split_by_speaker, split_into_folds
from data_process.store import Store, StoreWriter


def find_records(stores):
    """{clip name: (Store, split, index)} of all clips of the stores, in order of the names."""
    found = {}
    for store in stores:
        for split in schema.SPLITS:
            for index, clip in enumerate(store.clips(split)):
                if clip["name"] in found:
                    raise StoreError(
                        f"{clip['name']} is in {found[clip['name']][0].path} and in {store.path}: names must differ"
                    )
                found[clip["name"]] = store, split, index
    return dict(sorted(found.items()))


def merge(stores, output, split_of, progress=True):
    """Copy the clips that `split_of` {name: split} names into a new store -> its `meta`."""
    if Path(output).resolve() in {Path(store.path).resolve() for store in stores}:
        raise StoreError(f"{output}: is one of the stores to merge: give a new path")
    settings = _settings(stores[0])
    for store in stores[1:]:
        if _settings(store) != settings:
            raise StoreError(
                f"{store.path} and {stores[0].path} were built with different settings: build one of them anew"
            )
    found = find_records(stores)
    own = ("splits", "skipped", "speakers", "settings", "complete", "features")
    shared = {k: v for k, v in stores[0].meta.items() if k not in own}
    features = common_features(stores)
    with StoreWriter(output, {**settings, "split": sorted(split_of.items())}, features) as writer:
        for name in tqdm([name for name in found if name in split_of], unit="clip", disable=not progress):
            store, split, index = found[name]
            key = hashlib.sha256(store.bytes(split, "coeff", index)).hexdigest()[:16]
            if writer.journal.get(name, {"key": key})["key"] != key:
                raise StoreError(
                    f"{output}: {name} has changed in {store.path} since it was copied: merge to a new path"
                )
            if name not in writer.journal:
                about = {fact: value for fact, value in store.clips(split)[index].items() if fact != "name"}
                frames = store.jpegs(split, index, about["n_frames"])
                dropped = store.added.keys() - features.keys()
                records = {k: data for k, data in store.records(split, index).items() if k not in dropped}
                writer.add(name, key, split_of[name], records, about, frames)
        who = sorted({clip["info"]["speaker"] for clip in writer.journal.values()})
        left_out = {name: "not named in the split" for name in found if name not in split_of}
        return writer.finish({**shared, "speakers": who}, left_out)


def common_features(stores):
    """{name: about} of the added features that all stores have, made in the same way."""
    return {
        name: about
        for name, about in stores[0].added.items()
        if all(store.added.get(name) == about for store in stores)
    }


def _settings(store):
    """What the records were made with; the split of a store that was itself merged is no part of it."""
    return {name: value for name, value in store.meta["settings"].items() if name != "split"}


def main(argv=None):
    """Exit status: 0 written, 1 not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.merge_lmdb",
        description="Join LMDB stores, or split one anew, without computing anything again.",
    )
    parser.add_argument("--inputs", nargs="+", required=True, help="stores made by data_process.build_lmdb")
    parser.add_argument("--output", required=True, help="LMDB folder to write")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--split", help="JSON as for build_lmdb")
    how.add_argument(
        "--fractions", nargs=3, type=float, metavar=("TRAIN", "VAL", "TEST"), help="shares, whole speakers"
    )
    how.add_argument(
        "--fold", nargs=2, type=int, metavar=("K", "N"), help="speakers in N folds: test is fold K, counted from 0"
    )
    parser.add_argument("--val_fraction", type=float, default=0.1, help="with --fold: share for val (default 0.1)")
    parser.add_argument("--seed", type=int, default=1, help="order of the speakers (default 1)")
    args = parser.parse_args(argv)
    try:
        stores = [Store(path) for path in args.inputs]
        about = {name: store.clips(split)[index] for name, (store, split, index) in find_records(stores).items()}
        speaker_of = {name: clip["speaker"] for name, clip in about.items()}
        length_of = {name: clip["n_frames"] for name, clip in about.items()}
        if args.split:
            split_of, absent = read_split_list(args.split, about)
            if absent:
                print(
                    f"note: {len(absent)} names of {args.split} are in no store, the first {absent[0]}", file=sys.stderr
                )
        elif args.fold:
            split_of = split_into_folds(speaker_of, length_of, *args.fold, args.val_fraction, args.seed)
        elif args.fractions:
            split_of = split_by_speaker(speaker_of, length_of, args.fractions, args.seed)
        else:
            split_of = {name: split for name, (_, split, _) in find_records(stores).items()}
        left = sorted({name for store in stores for name in store.added} - common_features(stores).keys())
        if left:
            print(f"note: not in all stores in the same way, and left behind: {', '.join(left)}", file=sys.stderr)
        print(summary(merge(stores, args.output, split_of)), end="")
    except KeyboardInterrupt:
        print(f"\nstopped; what is in {args.output} is whole: run the same command to go on", file=sys.stderr)
        return 130
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
