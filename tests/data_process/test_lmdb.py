"""The store: what the paper's README reads, building, stopping, going on."""

import contextlib
import functools
import io
import json
import operator
import resource
import shutil

import lmdb
import numpy as np
import pytest
import simplejpeg
import soundfile

from data_process import build_lmdb, merge_lmdb, schema, store
from data_process.build_lmdb import ClipSettings, build, find_clips, main, process_clip
from data_process.parallel import map_in_order
from data_process.schema import StoreError
from data_process.store import Store, StoreWriter
from deep_3drecon import reconstruct
from deep_3drecon.track import FaceTrack
from deepspeech import features
from tests.data_process import made
from tests.data_process.stores import SPEAKERS, SPLIT, content


def test_the_snippet_of_the_papers_readme(clip_folder, tmp_path):
    """Named databases, decimal keys, whole files as values, with nothing but lmdb."""
    build(find_clips(clip_folder), tmp_path / "x.lmdb", SPLIT, SPEAKERS, progress=False)
    with lmdb.open(str(tmp_path / "x.lmdb"), map_size=1099511627776, max_dbs=64) as env:
        test_video, test_audio = env.open_db(b"test_video"), env.open_db(b"test_audio")
        train_video, train_lm5 = env.open_db(b"train_video"), env.open_db(b"train_lm5")
        with env.begin(write=False) as txn:
            video, audio = txn.get(str(1).encode(), db=test_video), txn.get(str(1).encode(), db=test_audio)
            assert txn.stat(test_video)["entries"] == txn.stat(train_video)["entries"] == 2
            lm5 = np.load(io.BytesIO(txn.get(b"0", db=train_lm5)))
    assert video == (clip_folder / "speaker1__take3.mp4").read_bytes()
    assert audio == (clip_folder / "speaker1__take3.wav").read_bytes()
    assert lm5.shape == (20, 5, 2)
    assert lm5[0, 0, 0] < lm5[0, 1, 0] and lm5[0, 3, 1] > lm5[0, 2, 1] > lm5[0, 0, 1]


def test_one_clip_to_records(clip_folder):
    path = clip_folder / "speaker0__take2.mp4"
    clip, again = process_clip(path, ClipSettings(frames=64)), process_clip(path, ClipSettings(frames=64))
    assert clip.skipped == "" and clip.frames == again.frames
    assert clip.records == again.records, "the same bytes, or a resumed build would end in another store"
    arrays = {name: schema.unpack_array(clip.records[name]) for name in ("lm5", "lm68", "coeff", *schema.FEATURES)}
    assert {name: array.shape for name, array in arrays.items()} == {
        "lm5": (22, 5, 2), "lm68": (22, 68, 2), "coeff": (22, 165), "phonemes": (44, 40), "mel": (44, 40), "energy": (44, 1),
    }  # fmt: skip
    wav, _ = soundfile.read(path.with_suffix(".wav"), dtype="float32")
    assert np.allclose(arrays["mel"], features(wav)["mel"])
    track = schema.unpack_track(clip.records["track"])
    assert isinstance(track, FaceTrack) and len(track) == clip.info["n_frames"] == 22
    assert clip.info["reprojection"] < 6 and clip.info["lip_correlation"] > 0.9
    assert len(clip.frames) == 22 and simplejpeg.decode_jpeg(clip.frames[5]).shape == (64, 64, 3)


def test_a_clip_that_does_not_fit_is_skipped_with_the_reason(clip_folder, tmp_path):
    for file in clip_folder.glob("speaker0__take0.*"):
        shutil.copy(file, tmp_path)
    soundfile.write(tmp_path / "speaker0__take0.wav", np.zeros(16000), 16000)
    result = process_clip(tmp_path / "speaker0__take0.mp4")
    assert "20 frames but 16000 samples of sound, 12800 are needed" in result.skipped and not result.records
    (tmp_path / "speaker0__take0.wav").unlink()
    assert "speaker0__take0.wav: " in process_clip(tmp_path / "speaker0__take0.mp4").skipped


def test_landmarks_are_found_where_none_are_stored(clip_folder, tmp_path):
    for suffix in (".mp4", ".wav"):
        shutil.copy(clip_folder / f"speaker0__take0{suffix}", tmp_path)
    alone = schema.unpack_array(process_clip(tmp_path / "speaker0__take0.mp4").records["lm68"])
    beside = schema.unpack_array(process_clip(clip_folder / "speaker0__take0.mp4").records["lm68"])
    assert np.abs(alone - beside).mean() < 0.8


def test_tracks_refined_by_the_pixels_are_those_of_reconstruct(tmp_path, capsys):
    """Both commands on one clip without stored landmarks."""
    video = made.write_video(tmp_path / "talk.mp4", made.head_frames(10))
    soundfile.write(tmp_path / "talk.wav", made.tone(0.4), 16000)
    common = ["--clips", str(tmp_path), "--output", str(tmp_path / "x.lmdb"), "--fractions", "1", "0", "0"]
    assert main([*common, "--speaker_from", "one", "--photometric"]) == 0
    assert reconstruct.main(["--video", str(video), "--output", str(tmp_path / "x.npz"), "--photometric"]) == 0
    assert "with --photometric" in capsys.readouterr().out
    reader, track = Store(tmp_path / "x.lmdb"), FaceTrack.load(tmp_path / "x.npz")
    assert np.array_equal(schema.unpack_track(reader.bytes("train", "track", 0)).coeff, track.coeff)
    assert np.abs(track.parts()["gamma"]).max() > 0.1
    assert reader.meta["settings"]["clip"]["tracks"] == "photometric"
    with pytest.raises(SystemExit):
        main([*common, "--photometric", "--tracks", "stored"])


@functools.cache
def process_once(path, settings):
    """`process_clip` with equal bytes for equal clips, so that stores can be compared bit by bit."""
    return process_clip(path, settings)


@pytest.fixture(scope="module")
def straight(clip_folder, tmp_path_factory):
    """(clips of which one will be skipped, `meta` and path of the store they give without an interruption)."""
    folder = tmp_path_factory.mktemp("one_broken")
    shutil.copytree(clip_folder, folder / "clips")
    soundfile.write(folder / "clips" / "speaker0__take2.wav", np.zeros(16000), 16000)
    clips = find_clips(folder / "clips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_lmdb, "process_clip", process_once)
        return clips, build(clips, folder / "x.lmdb", SPLIT, SPEAKERS, progress=False), folder / "x.lmdb"


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_an_interrupted_build_ends_in_the_same_store(straight, tmp_path, monkeypatch, stop_after):
    clips, expected, path = straight
    done = []

    def interrupted(path, settings):
        if len(done) == stop_after:
            done.append("stop")
            raise KeyboardInterrupt
        done.append(path)
        return process_once(path, settings)

    monkeypatch.setattr(build_lmdb, "process_clip", interrupted)
    target = tmp_path / "resumed.lmdb"
    with pytest.raises(KeyboardInterrupt):
        build(clips, target, SPLIT, SPEAKERS, progress=False)
    with pytest.raises(StoreError, match="interrupted"):
        Store(target)
    resumed = build(clips, target, SPLIT, SPEAKERS, progress=False)
    assert len(done) == 5, "four clips and the interruption: nothing is done twice"
    assert resumed == expected and "take2" in next(iter(resumed["skipped"]))
    assert content(target) == content(path)


def test_a_clip_is_stored_whole_or_not_at_all(tmp_path):
    with StoreWriter(tmp_path / "x.lmdb", {}) as writer:
        writer.add("a", "k", "train", made.records(3), {"n_frames": 3})
        before = dict(writer.journal)
        with pytest.raises(TypeError):
            writer.add("b", "k", "train", made.records(3, 1) | {"mel": "no bytes"}, {"n_frames": 3})
        assert writer.journal == before
        writer.add("c", "k", "train", made.records(3, 2), {"n_frames": 3})
        writer.finish({}, {})
    databases = content(tmp_path / "x.lmdb")
    assert set(databases["train_coeff"]) == set(databases["train_audio"]) == {b"0", b"1"}
    assert databases["train_audio"][b"1"] == b"wav of 2"


def test_the_map_grows_with_the_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FIRST_MAP_BYTES", 1 << 20)
    big = [bytes([k]) * 1_500_000 for k in range(4)]
    with StoreWriter(tmp_path / "x.lmdb", {}) as writer:
        for k, video in enumerate(big):
            writer.add(f"c{k}", "k", "test", {"video": video}, {"n_frames": 1})
        writer.finish({}, {})
    reader = Store(tmp_path / "x.lmdb")
    assert [reader.bytes("test", "video", k) for k in range(4)] == big


def test_no_room_is_an_error_that_says_what_is_safe(tmp_path):
    """The limit on file size stands in for a full disk: the write fails in the same place."""
    with StoreWriter(tmp_path / "x.lmdb", {}) as writer:
        writer.add("a", "k", "test", {"video": b"first"}, {"n_frames": 1})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            with pytest.raises(StoreError, match="free some space.*1 clips"):
                writer.add("b", "k", "test", {"video": b"x" * (4 << 20)}, {"n_frames": 1})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert writer.add("b", "k", "test", {"video": b"second"}, {"n_frames": 1}) == 1
        writer.finish({}, {})
    assert Store(tmp_path / "x.lmdb").bytes("test", "video", 0) == b"first"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        StoreWriter(tmp_path / "file" / "x.lmdb", {})


def test_a_store_goes_on_only_with_what_it_was_begun_with(clip_folder, tmp_path):
    clips, folder = find_clips(clip_folder), tmp_path / "clips"
    shutil.copytree(clip_folder, folder)
    target = tmp_path / "x.lmdb"
    build(find_clips(folder), target, SPLIT, SPEAKERS, progress=False)
    with pytest.raises(StoreError, match="other settings"):
        build(clips, target, SPLIT, SPEAKERS, ClipSettings(frames=64), progress=False)
    with pytest.raises(StoreError, match="take0 is in train, now val is asked"):
        build(clips, target, SPLIT | {"speaker0__take0": "val"}, SPEAKERS, progress=False)
    with pytest.raises(StoreError, match="no longer asked for"):
        build(clips, target, {"speaker0__take2": "test"}, SPEAKERS, progress=False)
    about = folder / "speaker0__take0.json"
    about.write_text(about.read_text().replace('"shift_ms": 0.0', '"shift_ms": 40.0'))
    with pytest.raises(StoreError, match="take0 has changed"):
        build(find_clips(folder), target, SPLIT, SPEAKERS, progress=False)


def test_the_command_with_frames_and_speakers(clip_folder, tmp_path, capsys):
    target = tmp_path / "x.lmdb"
    arguments = [
        "--clips",
        str(clip_folder),
        "--output",
        str(target),
        "--fractions",
        "0.5",
        "0",
        "0.5",
        "--frames",
        "64",
        "--formula",
        "mfcc",
    ]
    assert main([*arguments, "--speaker_from", "^(speaker.)__"]) == 0
    reader = Store(target)
    assert len(reader.array("test", "mfcc", 0)) == 4 * reader.clips("test")[0]["n_frames"]
    train, test = ({clip["speaker"] for clip in reader.clips(split)} for split in ("train", "test"))
    assert len(train) == len(test) == 1 and train != test and reader.meta["speakers"] == ["speaker0", "speaker1"]
    face = reader.frame("test", 0, 3)
    assert face.shape == (64, 64, 3) and face[32, 32, 0] > face[32, 32, 2] + 20, "skin in the middle of the crop"
    assert "train: 2 clips" in capsys.readouterr().out
    assert json.loads(json.dumps(reader.meta)) == reader.meta
    with pytest.raises(StoreError, match="no key 9"):
        reader.bytes("test", "video", 9)
    assert main(["--clips", str(tmp_path / "absent"), "--output", str(target)]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_clips_outside_of_the_list_are_named(clip_folder, tmp_path, capsys):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["speaker0__take0", "speaker9__take9"], "test": ["speaker1__take1"]}))
    arguments = ["--clips", str(clip_folder), "--output", str(tmp_path / "x.lmdb"), "--split", str(split)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "speaker9__take9" in printed.err and "speaker0__take2: not named in split.json" in printed.out
    assert [len(Store(tmp_path / "x.lmdb").clips(s)) for s in schema.SPLITS] == [1, 0, 1]


def test_merging_copies_every_record_and_splits_anew(clip_folder, tmp_path, capsys):
    clips = find_clips(clip_folder)
    paths = []
    for k, names in enumerate((("speaker0__take0", "speaker1__take1"), ("speaker0__take2", "speaker1__take3"))):
        paths.append(tmp_path / f"{k}.lmdb")
        part = {name: SPLIT[name] for name in names}
        build(clips, paths[k], part, SPEAKERS, ClipSettings(frames=64), progress=False)
    merged = tmp_path / "merged.lmdb"
    assert merge_lmdb.main(["--inputs", *map(str, paths), "--output", str(merged), "--fold", "0", "2"]) == 0
    assert "test: 2 clips" in capsys.readouterr().out
    reader = Store(merged)
    assert {c["speaker"] for c in reader.clips("test")} != {c["speaker"] for c in reader.clips("train")}
    found = merge_lmdb.find_records([Store(path) for path in paths])
    for split in ("train", "test"):
        for index, clip in enumerate(reader.clips(split)):
            source, old_split, old_index = found[clip["name"]]
            assert {"video", "audio", "track"} < set(source.records(old_split, old_index))
            assert reader.records(split, index) == source.records(old_split, old_index)
            frames = reader.jpegs(split, index, clip["n_frames"])
            assert len(frames) == clip["n_frames"] and frames == source.jpegs(old_split, old_index, len(frames))
    twice = ["--inputs", str(merged), str(paths[0]), "--output", str(tmp_path / "y")]
    assert merge_lmdb.main(twice) == 1
    assert "names must differ" in capsys.readouterr().err


def test_merging_keeps_splits_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    clips = [("b", "train", "ann", 30, ()), ("c", "val", "bob", 20, ()), ("a", "test", "bob", 25, ())]
    paths = [made.store(tmp_path / f"{k}.lmdb", part) for k, part in enumerate((clips[:1], clips[1:]))]
    split_of = {name: split for name, split, *_ in clips}
    straight = merge_lmdb.merge([Store(p) for p in paths], tmp_path / "straight.lmdb", split_of, progress=False)
    assert {s: [c["name"] for c in part] for s, part in straight["splits"].items()} == {
        "train": ["b"],
        "val": ["c"],
        "test": ["a"],
    }
    assert straight["speakers"] == ["ann", "bob"] and straight["layout"]["exp"] == 52
    real, added = StoreWriter.add, []

    def interrupted(self, name, *rest):
        added.append(name)
        if len(added) == 2:
            raise KeyboardInterrupt
        return real(self, name, *rest)

    monkeypatch.setattr(StoreWriter, "add", interrupted)
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):
            merge_lmdb.merge([Store(p) for p in paths], tmp_path / "x.lmdb", split_of, progress=False)
    assert added == ["a", "b", "b", "c"]
    assert content(tmp_path / "x.lmdb") == content(tmp_path / "straight.lmdb")
    with pytest.raises(StoreError, match="is one of the stores"):
        merge_lmdb.merge([Store(p) for p in paths], paths[0], split_of, progress=False)


def test_a_folder_without_a_store(tmp_path):
    with pytest.raises(StoreError, match="no LMDB store here"):
        Store(tmp_path)


def test_workers_keep_the_order():
    results = map_in_order(operator.neg, [*range(9), "no number"], workers=2)
    assert [next(results) for _ in range(9)] == [-k for k in range(9)]
    with pytest.raises(TypeError):
        next(results)
