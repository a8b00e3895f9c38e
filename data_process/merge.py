"""Several LMDB stores -> one, records copied byte for byte, splits kept.

    python -m data_process.merge --lmdb data/lmdb/grid_s1 data/lmdb/synthetic --output data/lmdb/both

Stores must be made with the same settings. A speaker who has the same name in two stores is taken for the same person;
a clip's name may come once only. A merge that was stopped goes on with the same command. Then: data_process.stats.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from tqdm import tqdm

from data_process import schema
from data_process.build_lmdb import summary
from data_process.schema import StoreError
from data_process.store import Store, StoreWriter, close, environment

SAME = ("rates", "face_model", "face_model_hash", "layout", "expression_names", "phonemes")


def merge(paths, output, progress=True):
    """Copy the stores at `paths` into a new one at `output` -> its `meta`."""
    if Path(output).resolve() in {Path(p).resolve() for p in paths}:
        raise StoreError(f"{output}: is one of the stores to merge: give a new path")
    stores = [Store(path) for path in paths]
    _check_alike(stores)
    clips = [(store, split, k) for store in stores for split in schema.SPLITS for k in range(len(store.clips(split)))]
    with StoreWriter(output, stores[0].meta["settings"]) as writer:
        for store, split, k in tqdm(clips, unit="clip", disable=not progress):
            about = dict(store.clips(split)[k])
            name = about.pop("name")
            key = clip_hash(store, split, k)
            stored = writer.journal.get(name)
            if stored is None:
                frames = read_frames(store, split, k, about["n_frames"])
                writer.add(name, key, split, read_records(store, split, k), about, frames)
            elif stored["key"] != key:
                raise StoreError(
                    f"{output}: {name} is there already, from another store: clips need names of their own"
                )
        speakers = sorted({speaker for store in stores for speaker in store.meta["speakers"]})
        skipped = {name: reason for store in stores for name, reason in store.meta["skipped"].items()}
        extra = {name: stores[0].meta[name] for name in SAME if name in stores[0].meta}
        return writer.finish(extra | {"speakers": speakers}, skipped)


def _check_alike(stores):
    first = stores[0]
    for store in stores[1:]:
        for name in ("settings", *SAME):
            if store.meta.get(name) != first.meta.get(name):
                raise StoreError(
                    f"{store.path}: its {name} differ from those of {first.path}: build both with the same settings"
                )


def read_records(store, split, index):
    """{record: bytes} of all records but frames that a clip has."""
    found = {name: _value(store, split, name, schema.clip_key(index)) for name in schema.RECORDS if name != "frames"}
    return {name: data for name, data in found.items() if data is not None}


def read_frames(store, split, index, n_frames):
    """JPEGs of a clip's frames, in order; [] in a store without them."""
    frames = [_value(store, split, "frames", schema.frame_key(index, t)) for t in range(n_frames)]
    return [frame for frame in frames if frame is not None]


def clip_hash(store, split, index):
    """State of a clip: hash of its store, its place and its motion."""
    where = f"{Path(store.path).resolve()} {split} {index}".encode()
    return hashlib.sha256(where + store.bytes(split, "coeff", index)).hexdigest()[:16]


def _value(store, split, record, key):
    """One value, or None where the store has none."""
    env, handles = environment(store.path)
    name = schema.database(split, record)
    with env.begin() as txn:
        known = txn.get(name) is not None  # the main database lists the named ones
    if not known:
        return None
    if name not in handles:
        handles[name] = env.open_db(name, create=False)
    with env.begin(db=handles[name]) as txn:
        return txn.get(key)


def main(argv=None):
    """Exit status: 0 the store is complete, 1 it could not be made."""
    parser = argparse.ArgumentParser(description="Merge LMDB stores into one.")
    parser.add_argument("--lmdb", required=True, nargs="+", metavar="STORE", help="stores to merge, two or more")
    parser.add_argument("--output", required=True, help="LMDB folder to write or to go on with")
    args = parser.parse_args(argv)
    try:
        meta = merge(args.lmdb, args.output)
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        for path in args.lmdb:
            close(path)
    print(summary(meta), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
