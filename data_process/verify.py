"""Is a store whole? Every clip and every record of it is read and checked; what is at fault is named, with what to do.

    python -m data_process.verify data/grid.lmdb             # of pictures, a few of each clip are decoded
    python -m data_process.verify data/grid.lmdb --full      # all of them

Checked: the LMDB file and its `meta`; the journal against `meta`; that every clip has all records, and nothing is left over; that their
lengths agree (frames, samples of sound, rows of features); that numbers are finite; that video, JPEG and sound can be decoded;
the track against the face model; stats.json against the clips. Notes, such as a speaker in two splits, do not make a store faulty.
"""

import argparse
import json
import sys
from pathlib import Path

import lmdb
import numpy as np
from tqdm import tqdm

from data_process import schema
from data_process.outputs import writable_file, write_aside
from data_process.schema import StoreError
from data_process.stats import Moments
from data_process.store import Store, close, environment
from data_process.verify_clip import UNREADABLE, Report, check_clip
from deep_3drecon.assets import AssetError
from deep_3drecon.face_model import FaceModelError, load_face_model

SHOWN = 40  # faults that are printed; --json has all

BUILD_ON = "run the same build_lmdb command again"
BUILD_ANEW = "build the store anew"
MEASURE = "run python -m data_process.stats on the store again"


def verify(path, full=False, progress=True):
    """Check a store end to end -> Report. full: decode every picture. Raises StoreError where there is no store at all."""
    report, path = Report(str(path)), str(path)
    close(path)
    if not _file_is_whole(path, report):
        return report
    store = Store(path, unfinished=True)
    if not store.meta["complete"]:
        report.fault("store", "meta", "its build was interrupted", BUILD_ON)
        return report
    _check_journal(store, report)
    _check_keys(store, report)
    _check_speakers(store, report)
    _check_face_model(store, report)
    measured = {"exp": Moments(), "n_clips": len(store.clips("train"))}
    clips = [(split, index, clip) for split in schema.SPLITS for index, clip in enumerate(store.clips(split))]
    for split, index, clip in tqdm(clips, unit="clip", disable=not progress):
        track = check_clip(store, split, index, clip, report, full)
        if split == "train" and track is not None:
            measured["exp"].add(track.parts()["exp"][track.valid])
    report.clips = len(clips)
    _check_stats(store, measured, report)
    return report


def _file_is_whole(path, report):
    """Is data.mdb as long as LMDB thinks? Reading beyond its end would kill the process."""
    env, _ = environment(path)
    file = Path(path, "data.mdb") if Path(path).is_dir() else Path(path)
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if file.stat().st_size < needed:
        report.fault(
            "store",
            file.name,
            f"is cut off: {file.stat().st_size} of {needed} bytes",
            f"copy it again, or {BUILD_ANEW}",
        )
        close(path)
        return False
    return True


def _keys(store, name):
    """All keys of a database; empty where it does not exist."""
    env, _ = environment(store.path)
    try:
        handle = env.open_db(name, create=False)
    except (lmdb.NotFoundError, lmdb.ReadonlyError):
        return []
    with env.begin(db=handle) as txn:
        return [bytes(key) for key in txn.cursor().iternext(keys=True, values=False)]


def _check_journal(store, report):
    """Every clip of `meta` stands in the journal at the same place, and no other."""
    env, _ = environment(store.path)
    try:
        handle = env.open_db(schema.JOURNAL_DB.encode(), create=False)
    except (lmdb.NotFoundError, lmdb.ReadonlyError):
        report.fault("store", "journal", "is missing", BUILD_ANEW)
        return
    with env.begin(db=handle) as txn:
        journal = {bytes(key).decode(): schema.unpack_json(value) for key, value in txn.cursor()}
    places = {clip["name"]: (s, k) for s in schema.SPLITS for k, clip in enumerate(store.clips(s))}
    noted = {name: (entry["split"], entry["index"]) for name, entry in journal.items() if "split" in entry}
    for name in sorted(places.keys() | noted.keys()):
        if places.get(name) != noted.get(name):
            what = f"meta has it at {places.get(name)}, the journal at {noted.get(name)}"
            report.fault(name, "journal", what, BUILD_ON)
    for name, entry in journal.items():
        if "skipped" in entry and name not in store.meta["skipped"]:
            report.fault(name, "journal", "was skipped, which meta does not say", BUILD_ON)
    if store.meta["skipped"]:
        report.note("store", "meta", f"{len(store.meta['skipped'])} clips were skipped or left out: see its report.txt")


def _check_keys(store, report):
    """No key of a clip or frame that `meta` does not know. (What is missing shows when the clips are read.)"""
    for split in schema.SPLITS:
        clips = store.clips(split)
        known = {schema.clip_key(index) for index in range(len(clips))}
        for record in (*schema.RECORDS, *store.added):
            keys = set(_keys(store, schema.database(split, record, store.added)))
            if record == "frames":
                keys = {key.partition(b"-")[0] for key in keys}
            for key in sorted(keys - known):
                report.fault(f"{split} {key.decode()}", record, "belongs to no clip", BUILD_ANEW)


def _check_speakers(store, report):
    """Speakers in two splits make a test that is none."""
    who = {split: {clip["speaker"] for clip in store.clips(split)} for split in schema.SPLITS}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(who[first] & who[second])
        if shared:
            names = ", ".join(map(str, shared[:5])) + (" and others" if len(shared) > 5 else "")
            what = f"{first} and {second} share {len(shared)} speakers ({names})"
            report.note(
                "store", "meta", what, "results on new people need data_process.merge_lmdb --fractions or --fold"
            )


def _check_face_model(store, report):
    """The tracks' numbers mean something only with the face model they were measured with."""
    try:
        model = load_face_model(store.meta["face_model"])
    except (FaceModelError, AssetError) as error:
        report.note("store", "meta", f"its face model cannot be loaded here ({error})")
        return
    if model.hash != store.meta["face_model_hash"]:
        what = f"made with {model.name} {store.meta['face_model_hash']}, here is {model.hash}"
        report.fault("store", "face model", what, "install the face model it was made with, or " + BUILD_ANEW)


def _check_stats(store, measured, report):
    """stats.json is of this train split and of these features."""
    path = Path(store.path, "stats.json")
    if not path.is_file():
        report.note("store", "stats.json", "is not there: training needs it", MEASURE)
        return
    try:
        stats = json.loads(path.read_text())
        exp = measured["exp"]
        differs = [
            what
            for what, found, needed in (
                ("clips", stats["n_clips"], measured["n_clips"]),
                ("frames with a face", stats["n_frames"], exp.n),
                ("face model", stats["face_model_hash"], store.meta["face_model_hash"]),
                ("features", sorted(stats["features"]), sorted(store.features)),
            )
            if found != needed
        ]
        if not differs and exp.n and not np.allclose(stats["exp"]["mean"], exp.mean, rtol=1e-6, atol=1e-9):
            differs = ["mean expression"]
    except UNREADABLE as error:
        differs = [f"it cannot be read ({error})"]
    if differs:
        report.fault("store", "stats.json", f"is not of this store: {', '.join(differs)}", MEASURE)


def text(report):
    """Report -> table and list for people."""
    lines = [f"{'record':14} {'clips':>7} {'MB':>10}"]
    lines += [f"{name:14} {count:7d} {size / 1e6:10.1f}" for name, (count, size) in sorted(report.records.items())]
    for title, entries in (("Faults", report.faults), ("Notes", report.notes)):
        if entries:
            lines += ["", f"{title}: {len(entries)}"]
            lines += [
                f"  {e['where']}, {e['record']}: {e['what']}{': ' if e['remedy'] else ''}{e['remedy']}"
                for e in entries[:SHOWN]
            ]
            lines += [f"  and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    lines += ["", f"{report.path}: {report.clips} clips, {'FAULTY' if report.faults else 'whole'}"]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Exit status: 0 whole, 1 faulty, 2 no store could be opened."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.verify", description="Check an LMDB store end to end."
    )
    parser.add_argument("lmdb", help="store made by data_process.build_lmdb, synthetic or merge_lmdb")
    parser.add_argument("--full", action="store_true", help="decode every picture (default: a few of each clip)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all that was found as JSON")
    args = parser.parse_args(argv)
    try:
        if args.json:
            writable_file(args.json)
        report = verify(args.lmdb, args.full, progress=sys.stderr.isatty())
    except (StoreError, OSError, lmdb.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text(report), end="")
    if args.json:
        write_aside(args.json, json.dumps(report.__dict__, indent=1) + "\n")
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
