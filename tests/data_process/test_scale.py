"""Builds that are killed, run out of room, meet damaged clips, or run in many processes and on many machines: one and the same store."""

import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_process import build_lmdb, store
from data_process.build_lmdb import assign_splits, build, find_clips, sources
from data_process.clip_records import process_clip, process_shared_clip
from data_process.parallel import WorkerError, map_in_order
from data_process.schema import StoreError
from data_process.store import Store, StoreWriter
from tests.data_process import made
from tests.data_process.killers import killed_by, where
from tests.data_process.stores import SPEAKERS, SPLIT, content

DONE = {}


def process_once(path, settings):
    """`process_clip`, once for files of the same name and sizes: copies of a clip give the same records."""
    key = (Path(path).name, *(Path(path).with_suffix(suffix).stat().st_size for suffix in (".mp4", ".wav")), settings)
    if key not in DONE:
        DONE[key] = process_clip(path, settings)
    return DONE[key]


@pytest.fixture(scope="module")
def sixteen(clip_folder, tmp_path_factory):
    """({name: path}, {name: split}, {name: speaker}) of sixteen clips, four files each under four names; a store of them."""
    files = find_clips(clip_folder)
    clips = {f"{name}_{k}": path for name, path in files.items() for k in range(4)}
    split_of, speaker_of = ({name: table[name[:-2]] for name in clips} for table in (SPLIT, SPEAKERS))
    path = tmp_path_factory.mktemp("sixteen") / "x.lmdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_lmdb, "process_clip", process_once)
        build(clips, path, split_of, speaker_of, progress=False)
    store.close(path)  # what is open here would be open in the processes forked below
    return (clips, split_of, speaker_of), path


def forked(work):
    """Start work() in a process of its own -> its id. Nothing is imported anew, so that it begins at once."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return pid


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_killed_at_any_moment_and_completed(sixteen, tmp_path, monkeypatch):
    """The kill comes a few clips after the start, somewhere within a clip or its writing."""
    (clips, split_of, speaker_of), expected = sixteen
    target, begun = tmp_path / "x.lmdb", tmp_path / "begun"
    log = os.open(begun, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def noted(path, settings):
        os.write(log, b".")
        time.sleep(0.004)
        return process_once(path, settings)

    def build_to_the_end():
        try:
            build(clips, target, split_of, speaker_of, progress=False)
        finally:
            os.write(log, b"!")

    monkeypatch.setattr(build_lmdb, "process_clip", noted)
    rng, kills, status = random.Random(5), 0, None
    while status != 0:
        wanted = begun.stat().st_size + rng.randint(1, 3)
        pid = forked(build_to_the_end)
        if kills < 12:
            while begun.stat().st_size < wanted and not begun.read_bytes().endswith(b"!"):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.008))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = status_of(pid)
        kills += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL)
    os.close(log)
    assert kills >= 3
    assert content(target) == content(expected)
    assert begun.read_bytes().count(b".") <= len(clips) + kills, "each kill costs the clip in hand at most"


def test_a_full_disk_stops_the_build_and_more_room_lets_it_go_on(sixteen, tmp_path, monkeypatch):
    """The limit on file size stands in for a full disk: writing fails in the same place."""
    (clips, split_of, speaker_of), expected = sixteen
    target, said = tmp_path / "x.lmdb", tmp_path / "said"
    monkeypatch.setattr(build_lmdb, "process_clip", process_once)

    def with_little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, resource.RLIM_INFINITY))
        try:
            build(clips, target, split_of, speaker_of, progress=False)
        except StoreError as error:
            said.write_text(str(error))
            return 1

    assert status_of(forked(with_little_room)) == 1
    assert "free some space" in said.read_text() and "already judged are safe" in said.read_text()
    with StoreWriter(tmp_path / "x.lmdb", Store(expected).meta["settings"]) as writer:
        assert 0 < len(writer.journal) < len(clips)
    build(clips, target, split_of, speaker_of, progress=False)
    assert content(target) == content(expected)


def spoil(kind, path):
    """Damage one clip's files (path of its mp4) in one way."""
    wav, landmarks = path.with_suffix(".wav"), path.with_suffix(".landmarks.npz")
    with np.load(landmarks) as npz:
        arrays = dict(npz)
    if kind == "no picture":
        path.write_bytes(b"no video" * 500)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut off":
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "no sound":
        wav.write_bytes(b"RIFF")
    elif kind == "landmarks cut off":
        landmarks.write_bytes(landmarks.read_bytes()[:2000])
    elif kind == "landmarks of another clip":
        np.savez(landmarks, **{k: v if k == "frame_size" else v[:-2] for k, v in arrays.items()})
    elif kind == "landmarks that are no numbers":
        np.savez(landmarks, **arrays | {"points": np.full_like(arrays["points"], np.nan)})
    elif kind == "landmarks without scores":
        del arrays["scores"]
        np.savez(landmarks, **arrays)


KINDS = (
    "no picture", "empty", "cut off", "no sound", "landmarks cut off", "landmarks of another clip", "landmarks that are no numbers",
    "landmarks without scores",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_clip_stops_itself_alone(clip_folder, tmp_path, kind):
    for file in clip_folder.glob("speaker0__take0.*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "speaker0__take0.mp4"
    spoil(kind, path)
    result = process_clip(str(path))
    assert result.skipped and "speaker0__take0" in result.skipped and not result.records


def test_damaged_clips_are_named_and_tried_again_once_repaired(clip_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build_lmdb, "process_clip", process_once)
    folder, target = tmp_path / "clips", tmp_path / "x.lmdb"
    shutil.copytree(clip_folder, folder)
    wav = folder / "speaker1__take1.wav"
    whole = wav.read_bytes()
    soundfile.write(wav, np.zeros(100, np.float32), 16000)
    clips = find_clips(folder)
    first = build(clips, target, SPLIT, SPEAKERS, progress=False)
    assert list(first["skipped"]) == ["speaker1__take1"] and len(first["splits"]["train"]) == 1
    wav.write_bytes(whole)
    again = build(clips, target, SPLIT, SPEAKERS, progress=False)
    assert not again["skipped"] and [c["name"] for c in again["splits"]["train"]] == [
        "speaker0__take0",
        "speaker1__take1",
    ]
    spoil("empty", folder / "speaker0__take0.mp4")
    split_of, left_out = assign_splits(find_clips(folder), None, (1, 0, 0), 1, SPEAKERS)
    assert "speaker0__take0" in left_out and "speaker0__take0" not in split_of
    (folder / "speaker1__take3.json").write_text('{"sour')
    with pytest.raises(StoreError, match="speaker1__take3.json: cannot be read"):
        sources(find_clips(folder))


def test_skipped_clips_are_tried_again_when_asked(clip_folder, tmp_path, monkeypatch):
    clips, tried = find_clips(clip_folder), []

    def refuses_once(path, settings):
        tried.append(path)
        return build_lmdb.ClipRecords({}, {}, [], "not today") if len(tried) == 1 else process_once(path, settings)

    monkeypatch.setattr(build_lmdb, "process_clip", refuses_once)
    target = tmp_path / "x.lmdb"
    assert len(build(clips, target, SPLIT, SPEAKERS, progress=False)["skipped"]) == 1
    assert len(build(clips, target, SPLIT, SPEAKERS, progress=False)["skipped"]) == 1 and len(tried) == 4
    assert not build(clips, target, SPLIT, SPEAKERS, progress=False, retry=True)["skipped"] and len(tried) == 5


def test_a_reader_sees_what_another_process_adds_to_a_growing_store(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FIRST_MAP_BYTES", 1 << 20)
    path = made.store(tmp_path / "x.lmdb", [("a", "train", "ann", 20, ())])
    reader = Store(path)
    assert reader.bytes("train", "video", 0) == b"mp4 of 0"

    def grow():
        store.close(path)
        with StoreWriter(path, {"made": True}) as writer:
            writer.add("b", "key", "train", {"video": b"x" * (8 << 20)}, {"n_frames": 1, "speaker": "ann"})

    assert status_of(forked(grow)) == 0
    assert len(reader.bytes("train", "video", 1)) == 8 << 20


def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    once, ever = (str(tmp_path / "once"), 1), (str(tmp_path / "ever"), 99)
    items = [1, once, 2, 3, ever, 4, 5]
    results = list(map_in_order(killed_by, items, 2, lambda item, reason: (item, reason)))
    assert results == [1, "survived", 4, 9, (ever, "its worker process was killed 2 times"), 16, 25]
    with pytest.raises(WorkerError, match="killed 2 times in a row, last at .*ever"):
        list(map_in_order(killed_by, [ever], 2))


def test_two_machines_of_a_ray_cluster(clip_folder, tmp_path, monkeypatch):
    """Two local nodes make the records that one process makes; a worker killed midway, and one killed always, as above."""
    pytest.importorskip("ray", reason="Ray is optional: pip install ray==2.60.0")
    from ray.cluster_utils import Cluster

    from data_process.ray_workers import map_on_cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        once, ever = (str(tmp_path / "once"), 1), (str(tmp_path / "ever"), 99)
        items = [1, once, 2, ever, 3]
        found = list(map_on_cluster(killed_by, items, cluster.address, lambda item, reason: (item, reason)))
        assert found == [1, "survived", 4, (ever, "its worker process was killed 2 times"), 9]
        assert len(set(map_on_cluster(where, range(6), cluster.address))) == 2
        clips = find_clips(clip_folder)
        build(clips, tmp_path / "many.lmdb", SPLIT, SPEAKERS, ray=cluster.address, progress=False)
        build(clips, tmp_path / "one.lmdb", SPLIT, SPEAKERS, progress=False)
        assert content(tmp_path / "many.lmdb") == content(tmp_path / "one.lmdb")
    finally:
        cluster.shutdown()


def test_clips_that_another_machine_cannot_see_stop_the_build(tmp_path):
    with pytest.raises(StoreError, match="gone.mp4: not to be seen from .*share the folder"):
        process_shared_clip(str(tmp_path / "gone.mp4"))


def test_ray_that_is_not_there(clip_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match="pip install ray==2.60.0, on every machine"):
        build(find_clips(clip_folder), tmp_path / "x.lmdb", SPLIT, SPEAKERS, ray="auto", progress=False)
