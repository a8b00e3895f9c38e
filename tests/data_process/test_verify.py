"""A store that is whole passes; every kind of damage is found and named with its clip and record."""

import io
import json
import shutil

import lmdb
import numpy as np
import pytest
import soundfile

from data_process import schema, stats, store, verify
from data_process.add_features import add_features, formula_feature
from data_process.build_lmdb import build, find_clips
from data_process.clip_records import ClipSettings
from data_process.store import Store
from tests.data_process.stores import SPEAKERS, SPLIT


@pytest.fixture(scope="module")
def whole(clip_folder, tmp_path_factory):
    """A store of four clips with face crops, an added feature and stats.json."""
    path = tmp_path_factory.mktemp("whole") / "x.lmdb"
    build(find_clips(clip_folder), path, SPLIT, SPEAKERS, ClipSettings(frames=64), progress=False)
    add_features(path, [formula_feature("mfcc")], progress=False)
    assert stats.main(["--lmdb", str(path)]) == 0
    store.close(path)
    return path


@pytest.fixture
def spoilt(whole, tmp_path):
    """A copy to be damaged."""
    shutil.copytree(whole, tmp_path / "x.lmdb")
    return tmp_path / "x.lmdb"


def put(path, name, key, value):
    """Write a value into a store behind its back; None deletes it."""
    store.close(path)
    with lmdb.open(str(path), map_size=1 << 28, max_dbs=64) as env:
        handle = env.open_db(name.encode())
        with env.begin(write=True, db=handle) as txn:
            txn.delete(key) if value is None else txn.put(key, value)


def found(path, full=False):
    """[(where, record, what)] of the faults."""
    return [(f["where"], f["record"], f["what"]) for f in verify.verify(path, full, progress=False).faults]


def test_a_whole_store(whole, capsys, tmp_path):
    assert verify.main([str(whole), "--full", "--json", str(tmp_path / "report.json")]) == 0
    said = capsys.readouterr().out
    assert "4 clips, whole" in said and "train and test share" in said
    rows = {line.split()[0]: line.split()[1] for line in said.splitlines() if line and line.split()[-1][-1].isdigit()}
    assert {rows[name] for name in ("video", "audio", "track", "frames", "mfcc", "phonemes")} == {"4"}
    assert json.loads((tmp_path / "report.json").read_text())["faults"] == []


def wav(n_samples, rate=16000):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(n_samples, np.float32), rate, format="WAV")
    return file.getvalue()


def changed(reader, record, change):
    """The array of test clip 1 with something done to it, as bytes."""
    return schema.pack_array(change(reader.array("test", record, 1)))


def holed(array):
    array[3, 0] = np.nan
    return array


CLIP = "test 1 speaker1__take3"
DAMAGES = {
    "mel short": ("mel", lambda r: changed(r, "mel", lambda a: a[:-2]), "rows|shape|is needed for 23 frames"),
    "coeff not finite": ("coeff", lambda r: changed(r, "coeff", holed), "1 of 3795 numbers are not finite"),
    "coeff of another fit": ("coeff", lambda r: changed(r, "coeff", lambda a: a + 1), "differs from that of its track"),
    "lm68 in double": ("lm68", lambda r: changed(r, "lm68", lambda a: a.astype(np.float64)), "float64"),
    "phonemes cut off": ("phonemes", lambda r: r.bytes("test", "phonemes", 1)[:200], "not a npy file|reshape"),
    "sound short": ("audio", lambda r: wav(1000), "1000 samples"),
    "sound at another rate": ("audio", lambda r: wav(23 * 640, 8000), "at 8000 Hz"),
    "no sound": ("audio", lambda r: None, "is missing"),
    "video cut off": ("video", lambda r: r.bytes("test", "video", 1)[:3000], "not one picture|cannot be opened"),
    "video of another clip": ("video", lambda r: r.bytes("test", "video", 0), "of 22 frames"),
    "no video": ("video", lambda r: None, "is missing"),
    "track of another clip": ("track", lambda r: r.bytes("test", "track", 0), "23 frames at 25 fps are needed"),
    "added feature short": ("mfcc", lambda r: changed(r, "mfcc", lambda a: a[:-4]), "is needed for 23 frames"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_its_clip_and_record(whole, spoilt, damage):
    record, change, words = DAMAGES[damage]
    value = change(Store(whole))
    store.close(whole)
    put(spoilt, f"test_{record}", b"1", value)
    (fault,) = found(spoilt)
    assert fault[:2] == (CLIP, record)
    assert any(word in fault[2] for word in words.split("|")), fault


def test_pictures_are_decoded(spoilt):
    put(spoilt, "train_frames", b"0-000007", b"no JPEG")
    assert found(spoilt) == []
    assert [fault[:2] for fault in found(spoilt, full=True)] == [("train 0 speaker0__take0", "frames")]
    put(spoilt, "train_frames", b"0-000007", None)
    assert "19 JPEGs, 20 are needed" in found(spoilt)[0][2]


def test_what_belongs_to_no_clip_and_what_meta_and_journal_disagree_in(spoilt):
    put(spoilt, "val_mel", b"0", b"left over")
    journal = schema.pack_json({"key": "k", "split": "train", "index": 2, "info": {}})
    put(spoilt, "journal", b"stray", journal)
    assert [fault[:2] for fault in found(spoilt)] == [("stray", "journal"), ("val 0", "mel")]


def test_a_face_model_that_is_not_the_one_here(spoilt):
    meta = Store(spoilt).meta
    put(spoilt, "meta", b"meta", schema.pack_json(meta | {"face_model_hash": "0" * 8}))
    places = {fault[:2] for fault in found(spoilt)}
    assert ("store", "face model") in places and ("test 0 speaker0__take2", "track") in places


def test_figures_of_another_store(spoilt):
    file = spoilt / "stats.json"
    figures = json.loads(file.read_text())
    figures["exp"]["mean"][3] += 0.01
    file.write_text(json.dumps(figures))
    assert found(spoilt) == [("store", "stats.json", "is not of this store: mean expression")]
    figures["n_clips"] = 9
    file.write_text(json.dumps(figures))
    assert "clips" in found(spoilt)[0][2]
    file.write_text("{")
    assert "cannot be read" in found(spoilt)[0][2]


def test_a_file_that_is_cut_off_and_one_that_is_no_store(spoilt, capsys):
    data = spoilt / "data.mdb"
    with open(data, "r+b") as file:
        file.truncate(data.stat().st_size // 2)
    assert verify.main([str(spoilt)]) == 1
    assert "is cut off" in capsys.readouterr().out
    assert verify.main([str(spoilt.parent)]) == 2
    assert "no LMDB store here" in capsys.readouterr().err
    data.write_bytes(b"no store at all" * 1000)
    assert verify.main([str(spoilt)]) == 2


def test_a_build_that_was_interrupted(spoilt):
    meta = Store(spoilt).meta
    put(spoilt, "meta", b"meta", schema.pack_json(meta | {"complete": False, "splits": {}}))
    assert "interrupted" in found(spoilt)[0][2]
