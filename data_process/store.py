"""The LMDB store on disk: `Store` reads it, `StoreWriter` fills it one clip at a time. Names and bytes: `schema`."""

import os
from pathlib import Path

import lmdb
import simplejpeg

from data_process import schema
from data_process.schema import StoreError
from deepspeech.timing import ROWS_PER_FRAME

FIRST_MAP_BYTES = 1 << 28
# path -> (process id, environment, {database name: handle}). LMDB refuses a second environment on the same file in one
# process, and one opened before fork() must not be used after it, which is what DataLoader workers would do.
_OPEN = {}


def environment(path):
    """Read-only LMDB environment of a store and its database handles, opened once per (path, process)."""
    path = os.path.realpath(path)
    if path in _OPEN:
        pid, env, handles = _OPEN[path]
        if pid == os.getpid():
            return env, handles
        env.close()  # inherited through fork(): closing here leaves the parent's own untouched
    is_folder = not os.path.isfile(path)  # other systems keep theirs in a single file
    if is_folder and not Path(path, "data.mdb").is_file():
        raise StoreError(f"{path}: no LMDB store here: make one with python -m data_process.build_lmdb")
    try:
        env = lmdb.open(path, readonly=True, lock=False, readahead=False, max_dbs=schema.MAX_DBS, subdir=is_folder)
    except lmdb.Error as error:
        raise StoreError(f"{path}: cannot be opened as LMDB ({error}): build it anew") from error
    _OPEN[path] = (os.getpid(), env, {})
    return env, _OPEN[path][2]


def close(path):
    """Let go of a store in this process; needed before it is written to or deleted."""
    entry = _OPEN.pop(os.path.realpath(path), None)
    if entry is not None:
        entry[1].close()


class Store:
    """Reading side. Holds only the path, so it can be sent to other processes; LMDB is opened at the first read.

    meta: the store's `meta` record. clips(split): list of dicts (name, speaker, n_frames, ...), position = index.
    """

    def __init__(self, path, unfinished=False):
        self.path = str(path)
        self.meta = schema.unpack_json(self._read(schema.META_DB.encode(), schema.META_KEY))
        if self.meta["schema_version"] != schema.SCHEMA_VERSION:
            raise StoreError(
                f"{path}: schema version {self.meta['schema_version']}, this code reads {schema.SCHEMA_VERSION}: "
                "build it anew"
            )
        if not (self.meta["complete"] or unfinished):
            raise StoreError(f"{path}: its build was interrupted: run the same build_lmdb command again")

    @property
    def added(self):
        """{name: what `meta` knows of it} of the features that were added to this store."""
        return self.meta.get("features", {})

    @property
    def features(self):
        """{name: rows a frame} of all audio features."""
        return dict.fromkeys(schema.FEATURES, ROWS_PER_FRAME) | {k: v["rows_per_frame"] for k, v in self.added.items()}

    def clips(self, split):
        """What `meta` knows of the clips of a split, in the order of their indices."""
        if split not in self.meta["splits"]:
            raise StoreError(f"{self.path}: no split {split!r}, there are {sorted(self.meta['splits'])}")
        return self.meta["splits"][split]

    def bytes(self, split, record, index):
        """Value of one record as bytes."""
        return self._read(schema.database(split, record, self.added), schema.clip_key(index))

    def records(self, split, index):
        """{record: bytes} of all records that the clip has, added features too, the JPEGs of its frames left out."""
        key, found = schema.clip_key(index), {}
        for record in (*schema.RECORDS, *self.added):
            if record != "frames":
                found[record] = self._find(schema.database(split, record, self.added), key)
        return {record: data for record, data in found.items() if data is not None}

    def jpegs(self, split, index, n_frames):
        """JPEG bytes of the clip's face crops in order; empty in a store without them."""
        found = (self._find(schema.database(split, "frames"), schema.frame_key(index, t)) for t in range(n_frames))
        return [data for data in found if data is not None]

    def array(self, split, record, index):
        """A npy record (lm5, lm68, coeff, phonemes, mel, energy, an added feature) as array."""
        return schema.unpack_array(self.bytes(split, record, index))

    def track(self, split, index):
        """The clip's FaceTrack."""
        return schema.unpack_track(self.bytes(split, "track", index))

    def frame(self, split, index, frame):
        """One frame's face crop, (S, S, 3) uint8 RGB."""
        data = self._read(schema.database(split, "frames"), schema.frame_key(index, frame))
        return simplejpeg.decode_jpeg(data, colorspace="RGB")

    def close(self):
        """Let go of the LMDB environment of this path in this process."""
        close(self.path)

    def _read(self, name, key):
        value = self._find(name, key)
        if value is None:
            raise StoreError(
                f"{self.path}: {name.decode()} has no key {key.decode()}: the store is damaged, the index too high, or it "
                "was built without the option that makes this record"
            )
        return value

    def _find(self, name, key):
        """One value, None if there is none."""
        env, handles = environment(self.path)
        if name not in handles:
            try:
                handles[name] = env.open_db(name, create=False)
            except (lmdb.NotFoundError, lmdb.ReadonlyError):  # what a read-only environment says of a name it lacks
                return None
        try:
            with env.begin(db=handles[name]) as txn:
                return txn.get(key)
        except lmdb.MapResizedError:  # another process has written more than was mapped when this one opened the store
            env.set_mapsize(0)
            with env.begin(db=handles[name]) as txn:
                return txn.get(key)


class StoreWriter:
    """Writing side, resumable: each clip is one transaction together with its line in the journal.

    settings: what the records were made with; a store begun with other settings is refused.
    features: {name: what `meta` is to know of it} of added features that every clip will bring. Those that a store has
        already are kept if at the end all clips have them; `data_process.add_features` catches up with new clips.
    """

    def __init__(self, path, settings, features=None):
        # by way of JSON, as they will be read back: a tuple is stored as a list
        self.path, self.settings = Path(path), schema.unpack_json(schema.pack_json(settings))
        close(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            size = max(
                FIRST_MAP_BYTES, (self.path / "data.mdb").stat().st_size * 2 if (self.path / "data.mdb").exists() else 0
            )
            self.env = lmdb.open(str(self.path), map_size=size, max_dbs=schema.MAX_DBS)
            self.handles = {
                name.encode(): self.env.open_db(name.encode()) for name in (schema.META_DB, schema.JOURNAL_DB)
            }
            self.features = {**self._stored_meta().get("features", {}), **(features or {})}
            records = (*schema.RECORDS, *self.features)
            names = [schema.database(split, name, self.features) for split in schema.SPLITS for name in records]
            self.handles |= {name: self.env.open_db(name) for name in names}
        except (OSError, lmdb.Error) as error:
            raise StoreError(
                f"{path}: cannot be written ({error}): give a folder on a disk with room that you may write to"
            ) from error
        self.journal = self._read_journal()
        self._check_settings()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.env.close()

    def count(self, split):
        """Clips stored in a split so far: the next index."""
        return sum(entry.get("split") == split for entry in self.journal.values())

    def add(self, name, key, split, records, info, frames=()):
        """Store one clip under the next index of its split, all or nothing.

        name, key: the clip and the state of its files. records: {record: bytes}. info: its entry in `meta`.
        frames: JPEG bytes, one a frame.
        """
        index = self.count(split)
        entry = {"key": key, "split": split, "index": index, "info": info}
        clip = schema.clip_key(index)
        values = [(schema.database(split, name, self.features), clip, data) for name, data in records.items()]
        frames_db = schema.database(split, "frames")
        values += [(frames_db, schema.frame_key(index, t), data) for t, data in enumerate(frames)]
        self._commit([*values, (schema.JOURNAL_DB.encode(), name.encode(), schema.pack_json(entry))])
        self.journal[name] = entry
        return index

    def skip(self, name, key, reason):
        """Note in the journal that a clip was left out, so that a resumed build does not try it again."""
        entry = {"key": key, "skipped": reason}
        self._commit([(schema.JOURNAL_DB.encode(), name.encode(), schema.pack_json(entry))])
        self.journal[name] = entry

    def forget(self, name):
        """Strike a skipped clip from the journal, so that it is tried again."""
        with self.env.begin(write=True, db=self.handles[schema.JOURNAL_DB.encode()]) as txn:
            txn.delete(name.encode())
        del self.journal[name]

    def finish(self, extra, left_out):
        """Write `meta` from the journal, mark the store complete and return it.

        extra: further entries of `meta`. left_out: {name: reason} of clips that were not even tried.
        """
        splits = {split: [None] * self.count(split) for split in schema.SPLITS}
        for name, entry in self.journal.items():
            if "split" in entry:
                splits[entry["split"]][entry["index"]] = {"name": name, **entry["info"]}
        skipped = {name: entry["skipped"] for name, entry in self.journal.items() if "skipped" in entry}
        skipped = dict(sorted({**left_out, **skipped}.items()))
        self.features = {name: about for name, about in self.features.items() if self._all_have(name)}
        return self._write_meta({**extra, "complete": True, "splits": splits, "skipped": skipped})

    def _all_have(self, name):
        """Has every clip the record of this added feature?"""
        with self.env.begin() as txn:
            counts = {
                s: txn.stat(self.handles[schema.database(s, name, self.features)])["entries"] for s in schema.SPLITS
            }
        return all(counts[split] == self.count(split) for split in schema.SPLITS)

    def _stored_meta(self):
        with self.env.begin(db=self.handles[schema.META_DB.encode()]) as txn:
            stored = txn.get(schema.META_KEY)
        return {} if stored is None else schema.unpack_json(stored)

    def _check_settings(self):
        before = self._stored_meta()
        if before:
            changed = sorted(
                k for k in {*self.settings, *before["settings"]} if self.settings.get(k) != before["settings"].get(k)
            )
            if before["schema_version"] != schema.SCHEMA_VERSION or changed:
                raise StoreError(
                    f"{self.path}: was begun with other settings ({', '.join(changed) or 'schema version'}): "
                    "use the same settings to go on, or build to a new path"
                )
        self._write_meta({"complete": False, "splits": {}, "skipped": {}})

    def _write_meta(self, values):
        meta = {"schema_version": schema.SCHEMA_VERSION, "settings": self.settings, **values}
        meta |= {"features": self.features} if self.features else {}
        self._commit([(schema.META_DB.encode(), schema.META_KEY, schema.pack_json(meta))])
        return meta

    def _read_journal(self):
        with self.env.begin(db=self.handles[schema.JOURNAL_DB.encode()]) as txn:
            return {bytes(k).decode(): schema.unpack_json(v) for k, v in txn.cursor()}

    def _commit(self, values):
        commit(self.env, self.handles, values, self.path, f"the {len(self.journal)} clips already judged are safe")


def commit(env, handles, values, path, safe):
    """Write (database, key, value) triples in one transaction; the map grows when it is full.

    safe: what an error may say of the work before.
    """
    while True:
        try:
            with env.begin(write=True) as txn:
                for name, key, data in values:
                    txn.put(key, data, db=handles[name])
            return
        except lmdb.MapFullError:
            env.set_mapsize(env.info()["map_size"] * 2)
        except (OSError, lmdb.Error) as error:
            raise StoreError(
                f"{path}: cannot be written ({error}): free some space, then run the same command again; {safe}"
            ) from error
