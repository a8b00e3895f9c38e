"""Stand-in stores in the true layouts of two published systems, read, and turned into clips that the build takes."""

import io
import json
import pickle

import lmdb
import numpy as np
import pytest
import simplejpeg
import soundfile

from data_process import originals
from data_process.build_lmdb import find_clips, sources
from data_process.original_stores import PirenderStore, TedHdStore, speaker_of
from data_process.originals import main
from data_process.schema import StoreError
from data_process.splits import read_split_list, speakers
from data_process.video import probe, read_frames
from deep_3drecon.safe_pickle import UnsafePickleError
from deep_3drecon.track import FaceTrack
from tests.data_process import made

T = 12


def picture(t, size=(64, 48)):
    """(H, W, 3) uint8, a smooth picture that tells its number."""
    y, x = np.mgrid[: size[1], : size[0]]
    return np.stack([x * 3, y * 4, np.full_like(x, 10 * t)], -1).clip(0, 255).astype(np.uint8)


def five(height=48):
    """(T, 5, 2): an alignment of scale 4 of the template, moving by a pixel a frame; y down."""
    from deep_3drecon.align import TEMPLATE

    up = TEMPLATE[:, :2] * (102 / 4) + (30, 20) + np.arange(T)[:, None, None] * (1, 0)
    return np.stack([up[..., 0], height - 1 - up[..., 1]], -1)


def numbers(seed):
    return np.random.default_rng(seed).normal(0, 0.3, (T, 257)).astype(np.float32)


def wav_bytes(seconds):
    file = io.BytesIO()
    soundfile.write(file, made.tone(seconds), 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def ted_hd(tmp_path):
    """Two training clips and a test clip as style_avatar stores them, in one file and not a folder."""
    video = made.write_video(tmp_path / "v.mp4", map(picture, range(T))).read_bytes()
    path = tmp_path / "ted.lmdb"
    env = lmdb.open(str(path), subdir=False, map_size=1 << 26, max_dbs=64)
    with env.begin(write=True) as txn:
        for split, n in (("train", 2), ("test", 1)):
            for i in range(n):
                values = {
                    "video": video, "audio": wav_bytes(0.5), "uv": b"mp4", "lm5": pickle.dumps(five()),
                    "lm68": pickle.dumps(np.zeros((T, 68, 2)) + i), "coeff": pickle.dumps(numbers(i), protocol=2),
                    "coeff_norm": pickle.dumps(numbers(9)), "deepspeech": pickle.dumps(np.ones((24, 29), np.float32)),
                    "energy": pickle.dumps(np.arange(24, dtype=np.float32)[None]),
                }  # fmt: skip
                for record, value in values.items():
                    txn.put(str(i).encode(), value, db=env.open_db(f"{split}_{record}".encode(), txn=txn))
    env.close()
    return path


NAMES = ("M003#angry#level_1#001", "WDA_BobMenendez0_000#3", "id10283#7w0IBEWc9Qw#000993#001143")


@pytest.fixture
def pirender(tmp_path):
    """Three clips as Style2Talker stores them."""
    path = tmp_path / "mead.lmdb"
    env = lmdb.open(str(path), map_size=1 << 26)
    with env.begin(write=True) as txn:
        for i, name in enumerate(NAMES):
            for t in range(T):
                txn.put(f"{name}-{t:07d}".encode(), simplejpeg.encode_jpeg(picture(t), quality=95))
            alignment = np.tile(np.float32([4.0, 30 + i, 20]), (T, 1))
            txn.put(f"{name}-length".encode(), f"{T:07d}".encode())
            keypoints = np.zeros((T, 68, 2), np.float64 if i else np.float32)
            txn.put(f"{name}-keypoint".encode(), (keypoints + i).tobytes())
            txn.put(f"{name}-coeff_3dmm".encode(), np.hstack([numbers(i), alignment]).tobytes())
        txn.put(b"length", b"0000003")
    env.close()
    return path


def test_a_ted_hd_store_answers_like_ours(ted_hd):
    store = TedHdStore(ted_hd)
    assert store.splits == ("train", "test") and [len(store.clips(s)) for s in store.splits] == [2, 1]
    np.testing.assert_array_equal(store.array("train", "coeff", 1), numbers(1))
    assert store.array("test", "energy", 0).shape == (24, 1) and store.array("test", "deepspeech", 0).shape == (24, 29)
    assert store.bytes("test", "uv", 0) == b"mp4" and set(store.records("test", 0)) >= {"video", "audio", "lm5"}
    track = store.track("train", 1)
    assert isinstance(track, FaceTrack) and (track.frame_size, track.fps, len(track)) == ((64, 48), 25, T)
    assert (track.landmarks68 == 1).all()
    # the five points are a projection of the template at scale 4, whose origin goes to the middle of the crop
    origin = [30, 48 - 1 - 20]
    np.testing.assert_allclose(track.crop[0, :, :2] @ origin + track.crop[0, :, 2], [112, 111], atol=1e-3)
    np.testing.assert_allclose(track.crop[:, 0, 0], 4, atol=1e-5)
    assert pickle.loads(pickle.dumps(store)).clips("test") == store.clips("test")
    store.close()


def test_a_store_without_splits_is_one(tmp_path):
    env = lmdb.open(str(tmp_path / "lrw"), map_size=1 << 24, max_dbs=8)
    with env.begin(write=True) as txn:
        for i in range(11):  # "10" sorts before "2": indices are numbers
            txn.put(str(i).encode(), pickle.dumps(numbers(i)), db=env.open_db(b"coeff", txn=txn))
    env.close()
    store = TedHdStore(tmp_path / "lrw")
    assert store.splits == ("all",) and [c["index"] for c in store.clips("all")] == list(range(11))
    np.testing.assert_array_equal(store.coefficients("all", 10).coeff, numbers(10))


class Runs:
    def __reduce__(self):
        return print, ("ran",)


def test_what_a_store_lacks_or_should_not_hold_is_told(ted_hd, pirender, tmp_path):
    store = TedHdStore(ted_hd)
    for split, record, index, message in (
        ("val", "coeff", 0, "no split"),
        ("test", "coeff", 1, "clip 1"),
        ("test", "mouth", 0, "mouth"),
    ):
        with pytest.raises(StoreError, match=message):
            store.bytes(split, record, index)
    for wrong in (pirender, tmp_path):
        with pytest.raises(StoreError):
            TedHdStore(wrong).clips("train")
    with pytest.raises(StoreError, match="PIRenderer"):
        PirenderStore(ted_hd).clips("all")
    store.close()
    env = lmdb.open(str(ted_hd), subdir=False, map_size=1 << 26, max_dbs=64)
    with env.begin(write=True) as txn:
        txn.put(b"0", pickle.dumps(Runs()), db=env.open_db(b"test_coeff", txn=txn))
    env.close()
    with pytest.raises(UnsafePickleError, match="print"):
        TedHdStore(ted_hd).array("test", "coeff", 0)


def test_a_part_of_a_store_is_not_read(ted_hd, pirender):
    """The store is handed out in parts; the first one opens, and reading behind its end would kill the process."""
    for path, store in ((ted_hd, TedHdStore(ted_hd)), (pirender / "data.mdb", PirenderStore(pirender))):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(StoreError, match="cut off.*joined first"):
            store.clips("all")


def test_a_pirender_store_answers_like_ours(pirender):
    store = PirenderStore(pirender)
    assert [(c["name"], c["speaker"]) for c in store.clips("all")] == [
        (NAMES[0], "M003"), (NAMES[1], "WDA_BobMenendez"), (NAMES[2], "id10283"),
    ]  # fmt: skip
    assert np.abs(store.frame("all", 1, 5).astype(int) - picture(5)).mean() < 2
    assert len(store.jpegs("all", 1)) == T and simplejpeg.decode_jpeg(store.jpegs("all", 1)[3]).shape == (48, 64, 3)
    for i in range(3):  # one as float32, the others as float64
        assert (store.array("all", "lm68", i) == i).all() and store.array("all", "lm68", i).shape == (T, 68, 2)
    track = store.coefficients("all", 1)
    np.testing.assert_array_equal(track.coeff, numbers(1))
    assert track.frame_size == (64, 48)
    np.testing.assert_allclose(track.transform[0], [64, 48, 4, 31, 20])
    divided = PirenderStore(pirender, {NAMES[0]: "train", NAMES[2]: "test"})
    assert divided.splits == ("train", "test") and divided.clips("test")[0]["name"] == NAMES[2]


@pytest.mark.parametrize(
    "name, speaker",
    [
        ("talk/anna#7", "talk/anna"),
        ("solo", "solo"),
        ("M030_front_happy_level3_001", "M030"),
        ("RD_Radio31_000", "RD_Radio31"),
    ],
)
def test_speakers_are_told_by_names(name, speaker):
    assert speaker_of(name) == speaker


def test_ted_hd_becomes_clips_that_the_build_takes(ted_hd, tmp_path, capsys):
    out = tmp_path / "clips"
    assert main(["--ted_hd", str(ted_hd), "--output", str(out)]) == 0
    clips = find_clips(out)
    assert list(clips) == ["test_00000", "train_00000", "train_00001"]
    assert clips["test_00000"].read_bytes() == (tmp_path / "v.mp4").read_bytes()
    wav, rate = soundfile.read(out / "test_00000.wav")
    assert (len(wav), rate) == (T * 640, 16000) and np.abs(wav).max() > 0.01
    about = json.loads((out / "train_00001.json").read_text())
    assert about["source"].endswith("#train/train_00001") and about["n_frames"] == T
    split_of, absent = read_split_list(out / "split.json", clips)
    assert split_of == {"test_00000": "test", "train_00000": "train", "train_00001": "val"} and absent == []
    assert "1 clips of train are for validation" in capsys.readouterr().out
    assert speakers(sources(clips), str(out / "speakers.json"))["train_00001"] == "train_00001"
    np.testing.assert_array_equal(FaceTrack.load(out / "train_00001.coeff.npz").coeff, numbers(1))
    assert not list(out.glob(".part*"))
    # again: nothing is written anew; what a run that was killed left half done is made
    (out / "train_00000.json").rename(out / "train_00000.json.part")
    (out / "train_00000.wav").unlink()
    before = (out / "train_00001.mp4").stat().st_mtime_ns
    assert main(["--ted_hd", str(ted_hd), "--output", str(out)]) == 0
    assert (out / "train_00001.mp4").stat().st_mtime_ns == before and (out / "train_00000.wav").is_file()


def test_pirender_becomes_clips_with_the_sound_beside_it(pirender, tmp_path, capsys):
    mead = tmp_path / "wav" / "M003" / "audio" / "angry" / "level_1"  # as MEAD itself lays them out
    mead.mkdir(parents=True)
    (mead / "001.wav").write_bytes(wav_bytes(0.48))
    (mead.parent / "level_2").mkdir()
    (mead.parent / "level_2" / "001.wav").write_bytes(wav_bytes(0.1))
    (tmp_path / "wav" / f"{NAMES[1]}.wav").write_bytes(wav_bytes(0.2))
    (tmp_path / "train.json").write_text(json.dumps([NAMES[0], NAMES[2]]))
    (tmp_path / "test.txt").write_text(NAMES[1] + "\nabsent#1\n")
    command = ["--pirender", str(pirender), "--audio", str(tmp_path / "wav"), "--output", str(tmp_path / "clips"), "--lists",
               f"train={tmp_path / 'train.json'}", f"test={tmp_path / 'test.txt'}"]  # fmt: skip
    assert main(command) == 0
    heard = capsys.readouterr()
    assert "2 clips of 2 speakers, 1 left out" in heard.out and "no sound" in heard.out and "absent#1" in heard.err
    path = tmp_path / "clips" / f"{NAMES[1]}.mp4"
    assert (probe(path).n_frames, probe(path).fps) == (T, 25)
    assert all(np.abs(f.astype(int) - picture(t)).mean() < 4 for t, f in enumerate(read_frames(path)))
    wav = soundfile.read(tmp_path / "clips" / f"{NAMES[1]}.wav")[0]
    assert len(wav) == T * 640 and not wav[int(0.21 * 16000) :].any()
    assert json.loads((tmp_path / "clips" / f"{NAMES[0]}.json").read_text())["notes"] == []
    assert "0.28 s shorter" in json.loads((tmp_path / "clips" / f"{NAMES[1]}.json").read_text())["notes"][0]
    assert read_split_list(tmp_path / "clips" / "split.json", list(NAMES))[0] == {NAMES[0]: "train", NAMES[1]: "test"}
    assert main([*command, "--allow_silent"]) == 0
    assert (tmp_path / "clips" / f"{NAMES[2]}.mp4").is_file()


def test_a_damaged_clip_stops_itself_only(pirender, tmp_path, capsys):
    env = lmdb.open(str(pirender), map_size=1 << 26)
    with env.begin(write=True) as txn:
        txn.delete(f"{NAMES[0]}-0000004".encode())
        txn.put(f"{NAMES[1]}-coeff_3dmm".encode(), b"\0" * 100)
    env.close()
    out = tmp_path / "clips"
    assert main(["--pirender", str(pirender), "--allow_silent", "--output", str(out)]) == 0
    assert "frame 4" in capsys.readouterr().out and not (out / f"{NAMES[0]}.mp4").exists()
    assert "no coefficients" in " ".join(json.loads((out / f"{NAMES[1]}.json").read_text())["notes"])
    assert not list(out.glob(".part*"))


def test_a_folder_of_other_clips_is_not_overwritten(ted_hd, pirender, tmp_path, capsys):
    out = tmp_path / "clips"
    out.mkdir()
    (out / "train_00000.json").write_text(json.dumps({"source": "elsewhere"}))
    assert main(["--ted_hd", str(ted_hd), "--output", str(out)]) == 1
    assert "another output folder" in capsys.readouterr().err
    assert main(["--pirender", str(pirender), "--output", str(tmp_path / "p"), "--lists", "tset=" + str(out)]) == 1
    assert originals.TedHdStore is TedHdStore


def test_validation_is_taken_from_train_by_whole_speakers():
    speaker_of = {f"{who}{k}": who for who in "abcd" for k in range(5)} | {"t": "e"}
    split_of = {name: "test" if name == "t" else "train" for name in speaker_of}
    chosen = originals.take_val(split_of, ["e", "c", "a", "b", "d"], speaker_of, 0.3)
    assert {name for name, split in chosen.items() if split == "val"} == {f"{who}{k}" for who in "ca" for k in range(5)}
    assert chosen["t"] == "test" and split_of["c0"] == "train"
    assert (
        originals.take_val(split_of, list("dcba"), speaker_of, 1.0)["a0"] == "train"
    )  # one speaker is left to train on
    for same in (split_of | {"t": "val"}, {"a0": "train", "t": "test"}):
        assert originals.take_val(same, list("abcde"), speaker_of, 0.3) == same
    assert originals.take_val(split_of, list("abcde"), speaker_of, 0) == split_of
