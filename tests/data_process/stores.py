"""What tests of the store look at: everything in it, and the split of the clips of `clip_folder`."""

import lmdb

from data_process import store

SPLIT = {"speaker0__take0": "train", "speaker0__take2": "test", "speaker1__take1": "train", "speaker1__take3": "test"}
SPEAKERS = {name: name.split("__")[0] for name in SPLIT}


def content(path):
    """{database: {key: value}} of everything in a store."""
    store.close(path)
    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=64) as env:
        with env.begin() as txn:
            names = [bytes(name) for name, _ in txn.cursor()]
        out = {}
        for name in names:
            with env.begin(db=env.open_db(name, create=False)) as txn:
                out[name.decode()] = {bytes(k): bytes(v) for k, v in txn.cursor()}
    return out
